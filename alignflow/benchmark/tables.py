"""Results as a table for the terminal, and in Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.table import Table

from alignflow.metrics import Estimate

from .convergence import curves, slope
from .results import Row

__all__ = [
    "HEAD",
    "SLOPES_HEAD",
    "cells",
    "floor_line",
    "markdown",
    "markdown_table",
    "rich_tables",
    "slopes",
    "tables",
]

RATIOS = {  # of these distances to their floors, to so many digits
    "sliced_w2": ("sliced W2", 2),
    "energy": ("energy", 1),
    "mmd": ("MMD²", 1),
    "reward_error": ("reward error", 1),
    "mode_error": ("mode error", 1),
}
COUNTS = {
    "nfe": "NFE",
    "vjps": "vjps",
    "reward_calls": "reward calls",
    "reward_vjps": "reward vjps",
}
HEAD = (
    "method",
    *(f"{name} / floor" for name, _ in RATIOS.values()),
    "mean reward",
    *COUNTS.values(),
    "ms",
    "MB",
)
SLOPES_HEAD = ("case", "method", "slope of sliced W2")


def cells(row: Row) -> list[str]:
    """A row as text, empty where nothing was measured."""
    values = row.values
    ratios = [
        _shown(row.ratio(name), digits) if name in values else ""
        for name, (_, digits) in RATIOS.items()
    ]
    counts = [f"{values[name].value:.0f}" if name in values else "" for name in COUNTS]
    spent = "seconds" in values
    milliseconds = f"{1e3 * values['seconds'].value:.2f}" if spent else ""
    megabytes = f"{values['megabytes'].value:.0f}" if spent else ""
    reward = _shown(values["reward"], 3)
    return [row.method, *ratios, reward, *counts, milliseconds, megabytes]


def floor_line(rows: Sequence[Row]) -> str:
    """What the ratios of a table are to."""
    floors = rows[0].floors
    shown = (f"{name} {floors[key]:.3g}" for key, (name, _) in RATIOS.items() if key in floors)
    return f"Floor, two sets of exact samples: {', '.join(shown)}."


def slopes(rows: Iterable[Row]) -> list[list[str]]:
    """How errors fall with samples, where several numbers were measured."""
    found = curves(rows).items()
    return [[case, method, _shown(slope(curve), 2)] for (case, method), curve in found]


def tables(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Title and rows of a table for each case and number of samples."""
    for title, group in groupby(rows, lambda row: row.title):
        yield title, list(group)


def rich_tables(rows: Sequence[Row]) -> Iterator[Table]:
    """For the terminal."""
    for title, group in tables(rows):
        yield _rich(title, HEAD, map(cells, group))
    if found := slopes(rows):
        yield _rich("Convergence", SLOPES_HEAD, found)


def markdown(rows: Sequence[Row]) -> str:
    """The same as sections of a page."""
    parts = [
        f"## {title}\n\n{floor_line(group)}\n\n{markdown_table(HEAD, map(cells, group))}"
        for title, group in tables(rows)
    ]
    if found := slopes(rows):
        parts.insert(0, f"## Convergence\n\n{markdown_table(SLOPES_HEAD, found)}")
    return "\n\n".join(parts)


def markdown_table(head: Sequence[Any], rows: Iterable[Iterable[Any]]) -> str:
    """Rows under a head as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _rich(title: str, head: Iterable[str], rows: Iterable[list[str]]) -> Table:
    table = Table(title=title)
    for name in head:
        table.add_column(name, justify="left" if name in ("method", "case") else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _shown(estimate: Estimate, digits: int) -> str:
    return f"{estimate.value:.{digits}f} ± {estimate.standard_error:.{digits}f}"
