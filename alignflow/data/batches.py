"""Batches from data of any kind; data that does not fit the policy is refused."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from alignflow import checks
from alignflow.conditions import as_given
from alignflow.decoding import Decoder
from alignflow.draws import integers
from alignflow.flow_map import FlowMap
from alignflow.simplex import check_tokens, one_hot_states

from .items import as_batch, stacked

__all__ = ["batches", "token_batches"]

KINDS = (
    "data must be a tensor or array (N, *E), a data set of states or of pairs (state, label), a "
    "TensorDict of `data` and perhaps `condition`, an object with sample(n, generator=...) or a "
    "callable of n"
)


def batches(
    data: Any, n: int, policy: FlowMap | None = None
) -> Callable[[torch.Generator], TensorDictBase]:
    """A callable (generator) -> n rows of data: `data` and perhaps `condition`.

    Args:
        data: Of one of the kinds that `pretrain` names.
        n: Rows of a batch.
        policy: What they are for: they come in its precision, and each batch is refused where its
            states are not of the policy's event shape, or not finite (which is looked at where it
            costs no waiting for a GPU), or its conditions are none that the policy knows.

    Raises:
        ValueError: If the data is empty, does not fit the policy, or is of another vocabulary.
        TypeError: If it is of another kind.
    """
    if policy is None:
        return _source(data, n)
    draw = token_batches(data, n, policy)
    return lambda generator: _as_states(draw(generator), policy)


def token_batches(
    data: Any, n: int, policy: FlowMap
) -> Callable[[torch.Generator], TensorDictBase]:
    """The same, but states on the simplex that are given as tokens (N, L) stay tokens."""
    draw = _source(data, n)
    written, read = getattr(data, "vocabulary", None), getattr(policy, "decoder", None)
    if isinstance(written, Decoder) and isinstance(read, Decoder):
        written.check_same(read)
    return lambda generator: _fitted(draw(generator), n, policy)


def _source(data: Any, n: int) -> Callable[[torch.Generator], TensorDictBase]:
    unclear = isinstance(data, str | bytes | type | Mapping)
    if unclear and not isinstance(data, TensorDictBase):  # which passes for a mapping
        raise TypeError(f"{KINDS}, got {checks.shown(data)}")
    if isinstance(data, DataLoader | IterableDataset):
        raise TypeError(
            f"{KINDS}, got a {type(data).__name__}: give the data set behind it "
            "(loader.dataset, or af.data.Loader(loader.dataset, workers=...)), or a callable that "
            "takes the next n rows of it"
        )
    if hasattr(data, "sample"):
        return lambda generator: as_batch(data.sample(n, generator=generator))
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        if getattr(data, "ndim", 1) == 0:
            raise ValueError(f"{KINDS}, got {checks.shown(data)}")
        if not len(data):
            raise ValueError(f"data must have a row and is empty, got {checks.shown(data)}")
        return lambda generator: _rows(data, integers(len(data), (n,), generator, "cpu"))
    if callable(data):
        return lambda generator: as_batch(data(n))
    raise TypeError(f"{KINDS}, got {type(data).__name__}")


def _rows(data: Any, rows: Tensor) -> TensorDictBase:
    if isinstance(data, Tensor | TensorDictBase):
        return as_batch(data[rows.to(data.device or "cpu")])
    if isinstance(data, np.ndarray) and data.dtype.kind in "biuf":
        return as_batch(data[rows.cpu().numpy()])  # of a memory-mapped one these rows alone
    return as_batch(stacked([data[i] for i in rows.tolist()]))


def _fitted(batch: TensorDictBase, n: int, policy: FlowMap) -> TensorDictBase:
    states = batch.get("data", None)
    if states is None:
        raise ValueError(f"a batch must hold `data`, got only {', '.join(map(str, batch.keys()))}")
    if len(states) != n:
        raise ValueError(f"the data must give {n} rows when {n} are asked for, got {len(states)}")
    event, dtype = tuple(states.shape[1:]), policy.dtype
    if policy.prediction.is_logits and not states.is_floating_point():
        check_tokens(states, policy.event_shape[-1])
        event, dtype = (*event, policy.event_shape[-1]), torch.int64
    elif not states.is_floating_point():
        raise ValueError(
            f"states must be floats, got data of {states.dtype}: images lie in [-1, 1], "
            "pixels.float() / 127.5 - 1, or come as af.data.Images(pixels)"
        )
    if event != policy.event_shape:
        raise ValueError(
            f"data must fit the policy, whose states are of shape {tuple(policy.event_shape)}, "
            f"the data's of shape {event}{_way(event, tuple(policy.event_shape))}"
        )
    if states.device.type == "cpu" and not torch.isfinite(states).all():
        raise ValueError("the data must be finite, got NaN or infinity among the states")
    policy.check_condition(as_given(batch.get("condition", None)))
    return batch if states.dtype == dtype else batch.set("data", states.to(dtype))


def _as_states(batch: TensorDictBase, policy: FlowMap) -> TensorDictBase:
    tokens = batch["data"]
    if tokens.is_floating_point():
        return batch
    return batch.set("data", one_hot_states(tokens, policy.event_shape[-1], policy.dtype))


def _way(event: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """How to get from one shape to the other, where it is clear."""
    if len(event) == len(wanted) == 3 and (event[2], *event[:2]) == wanted:
        return ": channels come first, data.permute(0, 3, 1, 2)"
    if torch.Size(event).numel() == torch.Size(wanted).numel():
        return f": data.reshape(-1, {', '.join(map(str, wanted))})"
    return ""
