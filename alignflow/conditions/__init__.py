"""Conditions by rows: one for all samples, or one for each.

A condition is anything that has rows: a tensor (N, ...), a NumPy array, a TensorDict, a list of
numbers, texts or mappings, or a mapping of such. A number, a text and a single row hold for all
samples. A TensorDict holds texts and mappings as non-tensor rows, which `as_given` makes a list.
"""

from .kinds import as_given, count_rows
from .null import drop_rows, null_rows
from .rows import (
    as_rows,
    check_rows,
    condition_rows,
    cycled,
    draw_rows,
    flat_rows,
    group_rows,
    join_rows,
    repeat_rows,
    rows_of,
    take_rows,
)

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
