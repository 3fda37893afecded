"""Results as a table for the terminal, and in Markdown."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from rich.table import Table

from alignflow.metrics import Estimate

from .results import Row

__all__ = ["HEAD", "cells", "markdown", "markdown_table", "rich_tables"]

HEAD = (
    "method",
    "sliced W2 / floor",
    "energy / floor",
    "MMD² / floor",
    "reward error / floor",
    "mode error / floor",
    "NFE",
    "vjps",
    "reward calls",
    "reward vjps",
    "ms",
    "MB",
)


def cells(row: Row) -> list[str]:
    """A row as text."""
    values = row.values
    return [
        row.method,
        _ratio(row.ratio("sliced_w2"), digits=2),
        *(
            _ratio(row.ratio(name), digits=1) if name in values else ""
            for name in ("energy", "mmd", "reward_error", "mode_error")
        ),
        *(f"{values[n].value:.0f}" for n in ("nfe", "vjps", "reward_calls", "reward_vjps")),
        f"{1e3 * values['seconds'].value:.2f}",
        f"{values['megabytes'].value:.0f}",
    ]


def rich_tables(rows: Iterable[Row]) -> Iterable[Table]:
    """A table for each case."""
    for case, group in groupby(rows, lambda row: row.case):
        table = Table(title=case)
        for name in HEAD:
            table.add_column(name, justify="left" if name == "method" else "right")
        for row in group:
            table.add_row(*cells(row))
        yield table


def markdown(rows: Iterable[Row]) -> str:
    """The same as sections of a page."""
    parts = []
    for case, group in groupby(rows, lambda row: row.case):
        parts.append(f"## {case}\n\n{markdown_table(HEAD, map(cells, group))}")
    return "\n\n".join(parts)


def markdown_table(head: Sequence[Any], rows: Iterable[Iterable[Any]]) -> str:
    """Rows under a head as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _ratio(estimate: Estimate, digits: int) -> str:
    return f"{estimate.value:.{digits}f} ± {estimate.standard_error:.{digits}f}"
