"""Conditions by rows: one for all samples, or one for each.

A condition is anything that has rows: a tensor (N, ...), a NumPy array, a TensorDict, a list of
numbers, texts or mappings, or a mapping of such. A number, a text and a single row hold for all
samples. The null condition of a row, which guidance and dropout use, is -1 in every number of it,
and the empty text.
"""

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any, TypeGuard

import numpy as np
import torch
from tensordict import NonTensorData, NonTensorStack, TensorDictBase
from torch import Tensor

from alignflow import checks

__all__ = [
    "as_given",
    "as_rows",
    "check_rows",
    "condition_rows",
    "dealt",
    "drop_rows",
    "group_rows",
    "repeat_rows",
    "rows_of",
    "take_rows",
]


def condition_rows(condition: Any, n: int, device: torch.device | str) -> Any:
    """A condition as n rows, numbers as tensors on a device.

    Args:
        condition: One for all, n of them, or None.
        n: Rows wanted.
        device: Where.

    Raises:
        ValueError: If it has another number of rows.
    """
    condition = _plain(condition)
    if condition is None:
        return None
    if _is_mapping(condition):
        return {key: condition_rows(field, n, device) for key, field in condition.items()}
    check_rows(condition, n)
    if isinstance(condition, Tensor | TensorDictBase):
        if condition.ndim == 0 or len(condition) == 1:
            condition = condition.expand(n, *condition.shape[1:])
        return condition.to(device)
    if not isinstance(condition, list):
        return [condition] * n
    return condition * n if len(condition) == 1 else condition


def check_rows(condition: Any, n: int) -> None:
    """Refuse a condition that is neither one for all of n samples nor one for each."""
    if _is_mapping(condition):
        for field in condition.values():
            check_rows(field, n)
    elif (count := _count(condition)) not in (None, 1, n):
        raise ValueError(f"{n} samples need one condition or {n}, got {count}")


def rows_of(values: Any, rows: slice, n: int) -> Any:
    """Some rows of what has one for each of n samples; anything else holds for all of them."""
    if _is_mapping(values):
        return {key: rows_of(field, rows, n) for key, field in values.items()}
    return values[rows] if _count(values) == n else values


def take_rows(condition: Any, rows: Tensor) -> Any:
    """The rows of these numbers (K,) of a condition that has one for each sample."""
    if _is_mapping(condition):
        return {key: take_rows(field, rows) for key, field in condition.items()}
    if isinstance(condition, Tensor | TensorDictBase):
        return condition[rows.to(condition.device or "cpu")]
    return [condition[row] for row in rows.tolist()]


def dealt(conditions: Any, n: int, device: torch.device | str) -> Any:
    """Conditions dealt out in turn to n samples, as n rows on a device; None for none."""
    conditions = _plain(conditions)
    count = _count(conditions)
    if count:
        conditions = take_rows(conditions, torch.arange(n) % count)
    return condition_rows(conditions, n, device)


def repeat_rows(condition: Any, times: int) -> Any:
    """Each row of a condition so many times over, in order; what holds for all stays as it is."""
    condition = _plain(condition)
    count = _count(condition)
    if count is None or times == 1:
        return condition
    rows = torch.arange(count, device=getattr(condition, "device", None))
    return take_rows(condition, rows.repeat_interleave(times))


def group_rows(condition: Any, n: int) -> Tensor:
    """Which of the different conditions each of n samples has, (n,); all the same without any."""
    rows = condition_rows(condition, n, getattr(condition, "device", None) or "cpu")
    if isinstance(rows, Tensor):
        return torch.unique(rows, dim=0, return_inverse=True)[1]
    numbers: dict[Any, int] = {}
    keys = [None] * n if rows is None else [_key(row) for row in _each(rows, n)]
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])


def drop_rows(condition: Any, dropped: Tensor) -> Any:
    """A condition without some of its rows: each of these becomes the null condition, as a whole.

    Args:
        condition: Of one row for each sample.
        dropped: Which rows, bool, (N,).
    """
    condition = _plain(condition)
    if _is_mapping(condition):
        return {key: drop_rows(field, dropped) for key, field in condition.items()}
    if isinstance(condition, TensorDictBase):
        fields = {key: drop_rows(condition.get(key), dropped) for key in condition.keys()}
        return condition.copy().update(fields)
    if isinstance(condition, Tensor):
        if not (condition.is_floating_point() or condition.is_complex()):
            condition = condition.long()  # bytes and bools have no -1
        rows = dropped.to(condition.device).reshape(-1, *[1] * (condition.ndim - 1))
        return condition.masked_fill(rows, -1)
    lost = dropped.tolist()
    return [_null(row) if lost[i] else row for i, row in enumerate(condition)]


def as_given(condition: Any) -> Any:
    """What a TensorDict holds of a condition, as models and rewards take it: texts as a list."""
    if isinstance(condition, NonTensorStack):
        return list(condition.tolist())
    return condition.data if isinstance(condition, NonTensorData) else condition


def as_rows(condition: Any) -> Tensor | None:
    """Conditions to train or act for, one or several, as a tensor (C, ...).

    Raises:
        ValueError: If it is no tensor of numbers, or holds none.
    """
    if condition is None:
        return None
    rows = torch.atleast_1d(checks.as_tensor("condition", condition))
    if not len(rows):
        raise ValueError(f"condition must be one or several, got none: {checks.shown(condition)}")
    if rows.is_complex() or not torch.isfinite(rows).all():
        raise ValueError(f"condition must be finite real numbers, got {checks.shown(condition)}")
    return rows


def _is_mapping(values: Any) -> TypeGuard[Mapping[Any, Any]]:
    """Whether it is a mapping of fields, and no TensorDict, which passes for one."""
    return isinstance(values, Mapping) and not isinstance(values, TensorDictBase)


def _plain(condition: Any) -> Any:
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


def _count(values: Any) -> int | None:
    """Rows; None for what has none, and holds for all samples."""
    if _is_mapping(values):
        counts = [count for field in values.values() if (count := _count(field)) is not None]
        return max(counts, default=None)
    if isinstance(values, Tensor | TensorDictBase | np.ndarray):
        return len(values) if values.ndim else None
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return len(values)
    return None


def _each(rows: Any, n: int) -> list[Any]:
    if _is_mapping(rows):
        fields = {key: _each(field, n) for key, field in rows.items()}
        return [{key: field[i] for key, field in fields.items()} for i in range(n)]
    return [rows[i] for i in range(n)]


def _key(row: Any) -> Any:
    """What is equal for equal rows, and can be looked up."""
    if isinstance(row, Mapping | TensorDictBase):
        return tuple((str(key), _key(field)) for key, field in sorted(row.items()))
    return str(row.tolist()) if isinstance(row, Tensor) else str(row)


def _null(row: Any) -> Any:
    if isinstance(row, Mapping):
        return {key: _null(field) for key, field in row.items()}
    if isinstance(row, str):
        return ""
    if isinstance(row, Tensor):
        return torch.full_like(row, -1)
    if isinstance(row, Number):
        return -1
    raise ValueError(f"there is no null condition of the kind of {type(row).__name__}")
