"""Rows of a condition: cut, repeated, joined, drawn and grouped."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow import checks, draws

from .kinds import as_given, count_rows, is_mapping, plain, rows_in

__all__ = [
    "as_rows",
    "check_rows",
    "condition_rows",
    "cycled",
    "draw_rows",
    "flat_rows",
    "group_rows",
    "join_rows",
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
    condition = plain(condition)
    if condition is None:
        return None
    if is_mapping(condition):
        return {key: condition_rows(field, n, device) for key, field in condition.items()}
    check_rows(condition, n)
    if isinstance(condition, Tensor | TensorDictBase):
        if condition.ndim == 0 or len(condition) == 1:
            condition = condition.expand(n, *condition.shape[1:])
        return condition.to(device)
    if not isinstance(condition, list):
        return [condition] * n
    return condition * n if len(condition) == 1 else condition


def as_rows(condition: Any) -> Any:
    """Conditions to train or act for, one or several, as rows of their kind; None for none.

    Raises:
        ValueError: If it is of no kind that has rows, or of none, or has numbers that are not
            finite.
    """
    rows, given = plain(condition), checks.shown(condition)
    if rows is None:
        return None
    count = rows_in(rows)
    if count == 0:
        raise ValueError(f"condition must be one or several, got none: {given}")
    single = isinstance(rows, Tensor | TensorDictBase | str) or (rows and is_mapping(rows))
    if count is None and not single:
        raise ValueError(
            f"condition must be a tensor, or an array, list or mapping of rows, got {given}"
        )
    if not _is_finite(rows):
        raise ValueError(f"condition must be finite real numbers, got {given}")
    return condition_rows(rows, count or 1, getattr(rows, "device", None) or "cpu")


def check_rows(condition: Any, n: int) -> None:
    """Refuse a condition that is neither one for all of n samples nor one for each."""
    if is_mapping(condition):
        for field in condition.values():
            check_rows(field, n)
    elif (count := rows_in(condition)) not in (None, 1, n):
        raise ValueError(f"{n} samples need one condition or {n}, got {count}")


def rows_of(values: Any, rows: slice, n: int) -> Any:
    """Some rows of what has one for each of n samples; anything else holds for all of them."""
    if values is None:
        return None
    if is_mapping(values):
        return {key: rows_of(field, rows, n) for key, field in values.items()}
    return values[rows] if rows_in(values) == n else values


def take_rows(condition: Any, rows: Tensor) -> Any:
    """Rows of a condition that has one for each sample; None of none.

    Args:
        condition: Of N rows.
        rows: Which: numbers, (K,), or a mask, bool, (N,).
    """
    condition = as_given(condition)
    if condition is None:
        return None
    if is_mapping(condition):
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
    rows = draws.integers(count_rows(conditions) or 1, (n,), generator)
    return condition_rows(take_rows(conditions, rows), n, device)


def cycled(conditions: Any, n: int, device: torch.device | str) -> Any:
    """Conditions cycled through for n samples, as n rows on a device; None of none."""
    conditions = plain(conditions)
    count = rows_in(conditions)
    if count:
        conditions = take_rows(conditions, torch.arange(n) % count)
    return condition_rows(conditions, n, device)


def repeat_rows(condition: Any, times: int) -> Any:
    """Each row of a condition so many times over, in order; what holds for all stays as it is."""
    condition = plain(condition)
    count = rows_in(condition)
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
    if is_mapping(first):
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


def _is_finite(condition: Any) -> bool:
    """Whether its numbers are finite and real."""
    if isinstance(condition, Mapping | TensorDictBase):
        return all(map(_is_finite, condition.values()))
    if not isinstance(condition, Tensor):
        return True
    return not condition.is_complex() and bool(torch.isfinite(condition).all())


def _each(rows: Any, n: int) -> list[Any]:
    if is_mapping(rows):
        fields = {key: _each(field, n) for key, field in rows.items()}
        return [{key: field[i] for key, field in fields.items()} for i in range(n)]
    return [rows[i] for i in range(n)]


def _key(row: Any) -> Any:
    """What is equal for equal rows, and can be looked up."""
    if isinstance(row, Mapping | TensorDictBase):
        return tuple((str(key), _key(field)) for key, field in sorted(row.items()))
    return str(row.tolist()) if isinstance(row, Tensor) else str(row)
