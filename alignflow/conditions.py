"""Conditions by rows: one for all samples, or one for each, as a tensor or a TensorDict."""

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

__all__ = ["condition_rows", "dealt", "repeat_rows"]


def condition_rows(condition: Any, n: int, device: torch.device) -> Tensor | TensorDictBase | None:
    """A condition as n rows on a device.

    Args:
        condition: A number, a tensor or TensorDict of one row or n, or None.
        n: Rows wanted.
        device: Where.

    Raises:
        ValueError: If it has another number of rows.
    """
    if condition is None:
        return None
    if not isinstance(condition, Tensor | TensorDictBase):
        condition = torch.as_tensor(condition)
    if condition.ndim == 0 or len(condition) == 1:
        condition = condition.expand(n, *condition.shape[1:])
    if len(condition) != n:
        raise ValueError(f"{n} samples need one condition or {n}, got {len(condition)}")
    return condition.to(device)


def dealt(conditions: Tensor | None, n: int, device: Any) -> Tensor | None:
    """Conditions (C, ...) dealt out in turn to n samples, (n, ...), on a device; None for none."""
    if conditions is None:
        return None
    return conditions[torch.arange(n) % len(conditions)].to(device)


def repeat_rows(condition: Any, times: int) -> Any:
    """Each row of a condition (a tensor or TensorDict, or None) so many times over, in order."""
    if condition is None or times == 1:
        return condition
    rows = torch.arange(len(condition), device=condition.device)
    return condition[rows.repeat_interleave(times)]
