"""Items of a data set, (state) or (state, label), as one batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.conditions import condition_rows

__all__ = ["as_batch", "stacked"]


def stacked(items: Sequence[Any]) -> Tensor | tuple[Tensor, list[Any]]:
    """States (n, *E) of n items; beside their labels if the items are pairs.

    Raises:
        ValueError: If an item is neither, or the states are of several shapes.
    """
    if _is_pair(items[0]):
        return _stacked_states([state for state, _ in items]), [label for _, label in items]
    return _stacked_states(items)


def as_batch(drawn: Any) -> TensorDictBase:
    """A TensorDict of `data` (n, *E), and `condition` where states come with labels."""
    if isinstance(drawn, TensorDictBase):
        return drawn
    states, condition = drawn if isinstance(drawn, tuple) and len(drawn) == 2 else (drawn, None)
    states = checks.as_tensor("the data's states", states)
    batch = TensorDict({"data": states}, batch_size=len(states))
    if condition is not None:
        batch["condition"] = condition_rows(condition, len(states), states.device)
    return batch


def _is_pair(item: Any) -> bool:
    """Whether it is (state, label), and not a state that is written as a list of numbers."""
    paired = isinstance(item, tuple | list) and len(item) == 2
    return paired and (isinstance(item, tuple) or isinstance(item[0], Tensor | np.ndarray))


def _stacked_states(states: Sequence[Any]) -> Tensor:
    try:
        return torch.stack([torch.as_tensor(state) for state in states])
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            "each item of the data must be a state, or a pair (state, label), and all states of "
            f"one shape; the first is {checks.shown(states[0])} ({error})"
        ) from error
