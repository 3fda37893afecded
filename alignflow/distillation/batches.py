"""Batches of data of any kind, as what a loss takes, refused where they do not fit the policy."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from alignflow import checks
from alignflow.conditions import as_given, condition_rows
from alignflow.flow_map import FlowMap

__all__ = ["batches"]

KINDS = (
    "data must be a tensor or array (N, *E), a data set of states or of pairs (state, label), a "
    "TensorDict of `data` and perhaps `condition`, an object with sample(n, generator=...) or a "
    "call of n"
)


def batches(
    data: Any, n: int, policy: FlowMap | None = None
) -> Callable[[torch.Generator], TensorDictBase]:
    """A call of (generator) that draws n rows of data, `data` and perhaps `condition`.

    Args:
        data: Of one of the kinds that `pretrain` names.
        n: Rows of a batch.
        policy: What they are for: they come in its precision, and each batch is refused where its
            states are not of the policy's event shape, or not finite (which is looked at where it
            costs no waiting for a GPU), or its conditions are none that the policy knows.

    Raises:
        ValueError: If the data is empty, or does not fit the policy.
        TypeError: If it is of another kind.
    """
    draw = _source(data, n)
    return draw if policy is None else lambda generator: _fitted(draw(generator), n, policy)


def _source(data: Any, n: int) -> Callable[[torch.Generator], TensorDictBase]:
    unclear = isinstance(data, str | bytes | type | Mapping)
    if unclear and not isinstance(data, TensorDictBase):  # which passes for a mapping
        raise TypeError(f"{KINDS}, got {checks.shown(data)}")
    if isinstance(data, DataLoader | IterableDataset):
        raise TypeError(
            f"{KINDS}, got a {type(data).__name__}: give the data set behind it "
            "(loader.dataset), or a call that takes the next n rows of it"
        )
    if hasattr(data, "sample"):
        return lambda generator: _as_batch(data.sample(n, generator=generator))
    if isinstance(data, np.ndarray) and np.dtype(data.dtype).kind in "biuf":
        data = torch.as_tensor(data)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        if getattr(data, "ndim", 1) == 0:
            raise ValueError(f"{KINDS}, got {checks.shown(data)}")
        if not len(data):
            raise ValueError(f"data must have a row and is empty, got {checks.shown(data)}")
        return lambda generator: _rows(data, torch.randint(len(data), (n,), generator=generator))
    if callable(data):
        return lambda generator: _as_batch(data(n))
    raise TypeError(f"{KINDS}, got {type(data).__name__}")


def _rows(data: Any, rows: Tensor) -> TensorDictBase:
    if isinstance(data, Tensor | TensorDictBase):
        return _as_batch(data[rows.to(data.device or "cpu")])
    items = [data[i] for i in rows.tolist()]
    if _is_pair(items[0]):
        return _as_batch((_stacked([state for state, _ in items]), [label for _, label in items]))
    return _as_batch(_stacked(items))


def _is_pair(item: Any) -> bool:
    """Whether it is (state, label), and not a state that is written as a list of numbers."""
    paired = isinstance(item, tuple | list) and len(item) == 2
    return paired and (isinstance(item, tuple) or isinstance(item[0], Tensor | np.ndarray))


def _stacked(states: list[Any]) -> Tensor:
    try:
        return torch.stack([torch.as_tensor(state) for state in states])
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            "each item of the data must be a state, or a pair (state, label), and all states of "
            f"one shape; the first is {checks.shown(states[0])} ({error})"
        ) from error


def _as_batch(drawn: Any) -> TensorDictBase:
    if isinstance(drawn, TensorDictBase):
        return drawn
    states, condition = drawn if isinstance(drawn, tuple) and len(drawn) == 2 else (drawn, None)
    states = checks.as_tensor("what data gives", states)
    batch = TensorDict({"data": states}, batch_size=len(states))
    if condition is not None:
        batch["condition"] = condition_rows(condition, len(states), states.device)
    return batch


def _fitted(batch: TensorDictBase, n: int, policy: FlowMap) -> TensorDictBase:
    states = batch.get("data", None)
    if states is None:
        raise ValueError(f"a batch must hold `data`, got only {', '.join(map(str, batch.keys()))}")
    if len(states) != n:
        raise ValueError(f"the data must give {n} rows when {n} are asked for, got {len(states)}")
    if not states.is_floating_point():
        raise ValueError(
            f"states must be floats, got data of {states.dtype}: images lie in [-1, 1], "
            "pixels.float() / 127.5 - 1, or come as af.data.Images(pixels)"
        )
    event = tuple(states.shape[1:])
    if event != policy.event_shape:
        raise ValueError(
            f"data must fit the policy, whose states are of shape {tuple(policy.event_shape)}, "
            f"the data's of shape {event}{_way(event, tuple(policy.event_shape))}"
        )
    if states.device.type == "cpu" and not torch.isfinite(states).all():
        raise ValueError("the data must be finite, got NaN or infinity among the states")
    policy.check_condition(as_given(batch.get("condition", None)))
    return batch if states.dtype == policy.dtype else batch.set("data", states.to(policy.dtype))


def _way(event: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """How one shape becomes the other, where that is plain."""
    if len(event) == len(wanted) == 3 and (event[2], *event[:2]) == wanted:
        return ": channels come first, data.permute(0, 3, 1, 2)"
    if torch.Size(event).numel() == torch.Size(wanted).numel():
        return f": data.reshape(-1, {', '.join(map(str, wanted))})"
    return ""
