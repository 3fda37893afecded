"""Time calls in turn in one process, and give ratios with their range.

A shared machine's speed drifts, so single times mean little: the calls alternate, each round gives
one ratio to the baseline, and the median and the range of these are printed.
"""

import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

__all__ = ["compare"]


def compare(
    title: str, baseline: str, calls: dict[str, Callable[[], object]], rounds: int = 15
) -> None:
    """Time each call once a round, after two rounds that are not counted, and print a table.

    Args:
        title: Of the table.
        baseline: Name of the call that others are a ratio to.
        calls: By name.
        rounds: Counted ones.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for counted in [False] * 2 + [True] * rounds:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if counted:
                seconds[name].append(time.perf_counter() - start)
    table = Table(title=f"{title} ({rounds} rounds, in turn)")
    for column in ("", "median ms", "ratio", "range of the ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for name, times in seconds.items():
        ratios = sorted(t / b for t, b in zip(times, seconds[baseline], strict=True))
        table.add_row(
            name,
            f"{1e3 * sorted(times)[rounds // 2]:.2f}",
            f"{ratios[rounds // 2]:.2f}",
            f"{ratios[0]:.2f} - {ratios[-1]:.2f}",
        )
    Console().print(table)
