"""Conditions by rows: one for all samples, or one for each.

A condition is anything that has rows: a tensor (N, ...), a NumPy array, a TensorDict, a list of
numbers, texts or mappings, or a mapping of such. A number, a text and a single row hold for all
samples. A TensorDict holds texts and mappings as non-tensor rows, which `as_given` makes a list.

The null condition is that of the unconditional flow; guidance moves away from it, and dropout
trains it. A model may say what it is (`FlowMap.null_condition`): a row, which stands in place of
any other. By default a batch without conditions has None, and a single row among others has -1 in
every number and the empty text.
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
    "count_rows",
    "cycled",
    "draw_rows",
    "drop_rows",
    "flat_rows",
    "group_rows",
    "join_rows",
    "null_rows",
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
    """Rows of a condition that has one for each sample; None of none.

    Args:
        condition: Of N rows.
        rows: Which: numbers, (K,), or a mask, bool, (N,).
    """
    condition = as_given(condition)
    if condition is None:
        return None
    if _is_mapping(condition):
        return {key: take_rows(field, rows) for key, field in condition.items()}
    if isinstance(condition, Tensor | TensorDictBase):
        return condition[rows.to(condition.device or "cpu")]
    if rows.dtype == torch.bool:
        rows = rows.nonzero()[:, 0]
    return [condition[row] for row in rows.tolist()]


def draw_rows(
    conditions: Any, n: int, generator: torch.Generator | None, device: torch.device | str
) -> Any:
    """n rows drawn evenly from the conditions of `as_rows`, on a device; None of none."""
    if conditions is None:
        return None
    source = "cpu" if generator is None else generator.device
    rows = torch.randint(count_rows(conditions) or 1, (n,), generator=generator, device=source)
    return condition_rows(take_rows(conditions, rows), n, device)


def cycled(conditions: Any, n: int, device: torch.device | str) -> Any:
    """Conditions cycled through for n samples, as n rows on a device; None of none."""
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


def join_rows(conditions: Sequence[Any]) -> Any:
    """The rows of several conditions of one kind, one after the other; None of none."""
    conditions = [as_given(condition) for condition in conditions]
    first = conditions[0]
    if first is None:
        return None
    if _is_mapping(first):
        return {key: join_rows([each[key] for each in conditions]) for key in first}
    if isinstance(first, Tensor | TensorDictBase):
        return torch.cat(conditions)
    return [row for condition in conditions for row in condition]


def flat_rows(condition: Any, batch_dims: int) -> Any:
    """What a TensorDict of some batch dimensions holds of a condition, as rows of one."""
    if isinstance(condition, Tensor):
        return condition.reshape(-1, *condition.shape[batch_dims:])
    return condition if condition is None else as_given(condition.reshape(-1))


def group_rows(condition: Any, n: int) -> Tensor:
    """Which of the different conditions each of n samples has, (n,); all the same without any."""
    rows = condition_rows(condition, n, getattr(condition, "device", None) or "cpu")
    if isinstance(rows, Tensor):
        return torch.unique(rows, dim=0, return_inverse=True)[1]
    numbers: dict[Any, int] = {}
    keys = [None] * n if rows is None else [_key(row) for row in _each(rows, n)]
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])


def drop_rows(condition: Any, dropped: Tensor, null: Any = None) -> Any:
    """A condition without some of its rows: each of these becomes the null condition, as a whole.

    Args:
        condition: Of one row for each sample.
        dropped: Which rows, bool, (N,).
        null: The model's null row; by default -1 in every number, and the empty text.
    """
    condition = _plain(condition)
    if _is_mapping(condition):
        nulls = _fields(null, condition)
        return {key: drop_rows(field, dropped, nulls[key]) for key, field in condition.items()}
    if isinstance(condition, TensorDictBase):
        nulls = _fields(null, condition)
        fields = {key: drop_rows(condition.get(key), dropped, nulls[key]) for key in nulls}
        return condition.copy().update(fields)
    if isinstance(condition, Tensor):
        if not (condition.is_floating_point() or condition.is_complex()):
            condition = condition.long()  # bytes and bools have no -1
        rows = dropped.to(condition.device).reshape(-1, *[1] * (condition.ndim - 1))
        if null is None:
            return condition.masked_fill(rows, -1)
        null = torch.as_tensor(null, dtype=condition.dtype, device=condition.device)
        return torch.where(rows, null, condition)
    lost = dropped.tolist()
    return [_null(row, null) if lost[i] else row for i, row in enumerate(condition)]


def null_rows(null: Any, n: int, device: torch.device | str) -> Any:
    """A model's null condition for n samples: its null row for each, or None where it has none."""
    if _is_mapping(null):
        return {key: null_rows(field, n, device) for key, field in null.items()}
    if isinstance(null, Tensor | Number | np.ndarray):
        row = torch.as_tensor(null, device=device)
        return row.expand(n, *row.shape)
    return None if null is None else [null] * n


def as_given(condition: Any) -> Any:
    """What a TensorDict holds of a condition, as models and rewards take it: texts as a list."""
    if isinstance(condition, NonTensorStack):
        return list(condition.tolist())
    return condition.data if isinstance(condition, NonTensorData) else condition


def as_rows(condition: Any) -> Any:
    """Conditions to train or act for, one or several, as rows of their kind; None for none.

    Raises:
        ValueError: If it is of no kind that has rows, or of none, or has numbers that are not
            finite.
    """
    rows, given = _plain(condition), checks.shown(condition)
    if rows is None:
        return None
    count = _count(rows)
    if count == 0:
        raise ValueError(f"condition must be one or several, got none: {given}")
    single = isinstance(rows, Tensor | TensorDictBase | str) or (rows and _is_mapping(rows))
    if count is None and not single:
        raise ValueError(
            f"condition must be a tensor, or an array, list or mapping of rows, got {given}"
        )
    if not _is_finite(rows):
        raise ValueError(f"condition must be finite real numbers, got {given}")
    return condition_rows(rows, count or 1, getattr(rows, "device", None) or "cpu")


def count_rows(condition: Any) -> int | None:
    """How many rows a condition has; None for what has none, and holds for all samples."""
    return _count(_plain(condition))


def _is_mapping(values: Any) -> TypeGuard[Mapping[Any, Any]]:
    """Whether it is a mapping of fields, and no TensorDict, which passes for one."""
    return isinstance(values, Mapping) and not isinstance(values, TensorDictBase)


def _is_finite(condition: Any) -> bool:
    """Whether its numbers are finite and real."""
    if isinstance(condition, Mapping | TensorDictBase):
        return all(map(_is_finite, condition.values()))
    if not isinstance(condition, Tensor):
        return True
    return not condition.is_complex() and bool(torch.isfinite(condition).all())


def _fields(null: Any, condition: Any) -> dict[Any, Any]:
    """The null row of each field of a condition."""
    return {key: None if null is None else null[key] for key in condition.keys()}


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


def _null(row: Any, null: Any) -> Any:
    if null is not None:
        return null
    if isinstance(row, Mapping):
        return {key: _null(field, None) for key, field in row.items()}
    if isinstance(row, str):
        return ""
    if isinstance(row, Tensor):
        return torch.full_like(row, -1)
    if isinstance(row, Number):
        return -1
    raise ValueError(f"there is no null condition of the kind of {type(row).__name__}")
