"""Results as a table for the terminal, and in Markdown."""

import math
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from alignflow.metrics import Estimate
from alignflow.metrics.names import label
from alignflow.tables import markdown_table

from .convergence import curves, slope
from .results import FLOOR, Row

__all__ = [
    "cells",
    "floor_line",
    "markdown",
    "rich_tables",
    "slopes",
    "slopes_head",
    "summary",
    "summary_head",
    "tables",
]

# of these distances to their floors, to so many digits
RATIOS = {
    "total_variation": 2,
    "sliced_w2": 2,
    "energy_distance": 1,
    "mmd": 1,
    "reward_error": 1,
    "mode_error": 1,
}
# means, with their standard errors, to three digits
MEANS = ("reward", "rate", "rate_bias")
# a unit to show in, where it is another one, with its heading; and digits
PLAIN = {
    "nfe": (label("nfe"), 1.0, 0),
    "vjps": (label("vjps"), 1.0, 0),
    "reward_calls": (label("reward_calls"), 1.0, 0),
    "reward_vjps": (label("reward_vjps"), 1.0, 0),
    "seconds": ("ms", 1e-3, 2),
    "megabytes": (label("megabytes"), 1.0, 0),
    "tuning_reward_calls": (f"{label('tuning_reward_calls')}, thousands", 1e3, 0),
    "tuning_reward_vjps": (f"{label('tuning_reward_vjps')}, thousands", 1e3, 0),
    "tuning_seconds": (label("tuning_seconds"), 1.0, 0),
}
# what 80 columns have room for; the page and results.md have all
TERMINAL = ("total_variation", "sliced_w2", "nfe", "reward_calls", "seconds", "tuning_seconds")
MANY = 8  # cases, from which on a summary says what tables no longer do


def cells(
    rows: Sequence[Row], only: Collection[str] = (*RATIOS, *PLAIN)
) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table as text, without the columns in which nothing was measured."""
    found = set(only) & set().union(*(row.values for row in rows))
    ratios = {name: digits for name, digits in RATIOS.items() if name in found}
    means = [name for name in MEANS if any(name in row.values for row in rows)]
    plain = {name: how for name, how in PLAIN.items() if name in found}
    head = [
        "method",
        *(f"{label(name)} / floor" for name in ratios),
        *(label(name) for name in means),
        *(heading for heading, _, _ in plain.values()),
    ]
    return head, [_cells(row, ratios, means, plain) for row in rows]


def _cells(row: Row, ratios: dict[str, int], means: list[str], plain: dict[str, Any]) -> list[str]:
    values = row.values
    return [
        row.method,
        *(
            _shown(row.ratio(name), digits) if name in values else ""
            for name, digits in ratios.items()
        ),
        *(_shown(values[name], 3) if name in values else "" for name in means),
        *(
            f"{values[name].value / unit:.{digits}f}" if name in values else ""
            for name, (_, unit, digits) in plain.items()
        ),
    ]


def floor_line(rows: Sequence[Row]) -> str:
    """What the ratios of a table are to."""
    floors = rows[0].floors
    shown = (f"{label(name)} {floors[name]:.3g}" for name in RATIOS if name in floors)
    return f"Floor, exact samples: {', '.join(shown)}."


def slopes_head(rows: Sequence[Row]) -> tuple[str, ...]:
    """Of the table of `slopes`."""
    return "case", "method", f"slope of {label(rows[0].distance)}"


def slopes(rows: Iterable[Row]) -> list[list[str]]:
    """How errors fall with samples, where several numbers were measured."""
    found = curves(rows).items()
    return [[case, method, _shown(slope(curve), 2)] for (case, method), curve in found]


def summary_head(rows: Sequence[Row]) -> tuple[str, ...]:
    """Of the table of `summary`."""
    return "method", "cases", f"median of {label(rows[0].distance)} / floor", "worst", "diverged"


def summary(rows: Iterable[Row]) -> list[list[str]]:
    """Median and worst distance of each method where there are many cases; else nothing."""
    found: dict[str, list[float]] = {}
    for row in rows:
        ratio = row.ratio(row.distance).value
        found.setdefault(row.method, []).append(math.inf if math.isnan(ratio) else ratio)
    if len(found.get(FLOOR, [])) < MANY:
        return []
    return [
        [method, str(len(ratios)), *map(_ratio, (median(ratios), max(ratios))),
         str(ratios.count(math.inf))]
        for method, ratios in found.items()
    ]  # fmt: skip


def tables(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Title and rows of a table for each case and number of samples."""
    for title, group in groupby(rows, lambda row: row.title):
        yield title, list(group)


def rich_tables(rows: Sequence[Row]) -> Iterator[Table]:
    """For the terminal."""
    for title, group in tables(rows):
        yield _rich(title, *cells(group, TERMINAL))
    if found := slopes(rows):
        yield _rich("Convergence", slopes_head(rows), found)
    if found := summary(rows):
        yield _rich("All cases", summary_head(rows), found)


def markdown(rows: Sequence[Row]) -> str:
    """The same as sections of a page."""
    parts = [
        f"## {title}\n\n{floor_line(group)}\n\n{markdown_table(*cells(group))}"
        for title, group in tables(rows)
    ]
    if found := slopes(rows):
        parts.insert(0, f"## Convergence\n\n{markdown_table(slopes_head(rows), found)}")
    if found := summary(rows):
        parts.insert(0, f"## All cases\n\n{markdown_table(summary_head(rows), found)}")
    return "\n\n".join(parts)


def _rich(title: str, head: Iterable[str], rows: Iterable[list[str]]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for name in head:
        text = name in ("method", "case")  # what gives way where room is short
        heading, justify = textwrap.fill(name, 10), "left" if text else "right"
        table.add_column(heading, justify=justify, no_wrap=not text)
    for row in rows:
        table.add_row(*row)
    return table


def _ratio(value: float) -> str:
    return "diverged" if math.isinf(value) else f"{value:.2f}"


def _shown(estimate: Estimate, digits: int) -> str:
    if math.isnan(estimate.value):
        return "diverged"
    value, error = (f"{x:.{digits}f}" for x in (estimate.value, estimate.standard_error))
    return value if error == "nan" else f"{value} ± {error}"  # of one seed there is none
