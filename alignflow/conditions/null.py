"""The null condition, that of the unconditional flow.

Guidance moves away from it, and dropout trains it. A model may say what it is
(`FlowMap.null_condition`): a row, which stands in place of any other. By default a batch without
conditions has None, and a single row among others has -1 in every number and the empty text.
"""

from collections.abc import Mapping
from numbers import Number
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor

from .kinds import is_mapping, plain

__all__ = ["drop_rows", "null_rows"]


def null_rows(null: Any, n: int, device: torch.device | str) -> Any:
    """A model's null condition for n samples: its null row for each, or None where it has none."""
    if is_mapping(null):
        return {key: null_rows(field, n, device) for key, field in null.items()}
    if isinstance(null, Tensor | Number | np.ndarray):
        row = torch.as_tensor(null, device=device)
        return row.expand(n, *row.shape)
    return None if null is None else [null] * n


def drop_rows(condition: Any, dropped: Tensor, null: Any = None) -> Any:
    """A condition without some of its rows: each of these becomes the null condition, as a whole.

    Args:
        condition: Of one row for each sample.
        dropped: Which rows, bool, (N,).
        null: The model's null row; by default -1 in every number, and the empty text.
    """
    condition = plain(condition)
    if is_mapping(condition):
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


def _fields(null: Any, condition: Any) -> dict[Any, Any]:
    """The null row of each field of a condition."""
    return {key: None if null is None else null[key] for key in condition.keys()}


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
