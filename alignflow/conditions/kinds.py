"""The kinds of a condition: what has rows, and how many."""

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any, TypeGuard

import numpy as np
import torch
from tensordict import NonTensorData, NonTensorStack, TensorDictBase
from torch import Tensor

__all__ = ["as_given", "count_rows", "is_mapping", "plain", "rows_in"]


def as_given(condition: Any) -> Any:
    """What a TensorDict holds of a condition, as models and rewards take it: texts as a list."""
    if isinstance(condition, NonTensorStack):
        return list(condition.tolist())
    return condition.data if isinstance(condition, NonTensorData) else condition


def plain(condition: Any) -> Any:
    """Numbers as a tensor, what else has rows as a list; a text or another object as it is."""
    condition = as_given(condition)
    if condition is None or isinstance(condition, Tensor | TensorDictBase | Mapping | str | bytes):
        return condition
    if isinstance(condition, np.ndarray) and condition.dtype.kind not in "biufc":
        condition = condition.tolist()
    elif isinstance(condition, Number | np.generic | np.ndarray):
        return torch.as_tensor(condition)
    if not isinstance(condition, Sequence):
        return condition
    rows = list(condition)
    if rows and all(isinstance(row, Tensor) for row in rows):
        return torch.stack(rows)
    try:
        return torch.as_tensor(rows)
    except (TypeError, ValueError, RuntimeError):
        return rows


def count_rows(condition: Any) -> int | None:
    """How many rows a condition has; None for what has none, and holds for all samples."""
    return rows_in(plain(condition))


def rows_in(values: Any) -> int | None:
    """Rows; None for what has none, and holds for all samples."""
    if is_mapping(values):
        counts = [count for field in values.values() if (count := rows_in(field)) is not None]
        return max(counts, default=None)
    if isinstance(values, Tensor | TensorDictBase | np.ndarray):
        return len(values) if values.ndim else None
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return len(values)
    return None


def is_mapping(values: Any) -> TypeGuard[Mapping[Any, Any]]:
    """Whether it is a mapping of fields, and no TensorDict, which passes for one."""
    return isinstance(values, Mapping) and not isinstance(values, TensorDictBase)
