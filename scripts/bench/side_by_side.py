"""Time calls in turn in one process, and give ratios with their range.

A shared machine's speed drifts, so single times mean little: the calls alternate, each round gives
one ratio to the baseline, and the median and the range of these are what is told. The ratio of the
least times, of the rounds that others disturbed least, stands beside it.
"""

import time
from collections.abc import Callable, Mapping

from page import table
from rich.progress import track

__all__ = ["compare"]


def compare(
    title: str, baseline: str, calls: Mapping[str, Callable[[], object]], rounds: int = 15
) -> str:
    """Time each call once a round, after two rounds that are not counted; a section of a page.

    Args:
        title: Of the section.
        baseline: Name of the call that others are a ratio to.
        calls: By name.
        rounds: Counted ones.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for counted in track([False] * 2 + [True] * rounds, title):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if counted:
                seconds[name].append(time.perf_counter() - start)
    rows = []
    for name, times in seconds.items():
        ratios = sorted(t / b for t, b in zip(times, seconds[baseline], strict=True))
        middle = f"{1e3 * sorted(times)[rounds // 2]:.2f}"
        extent = f"{ratios[0]:.2f} - {ratios[-1]:.2f}"
        least = f"{min(times) / min(seconds[baseline]):.2f}"
        rows.append([name, middle, f"{ratios[rounds // 2]:.2f}", extent, least])
    head = ["", "median ms", f"ratio to {baseline}", "range of the ratio", "ratio of the least"]
    return f"## {title}\n\n{rounds} rounds.\n\n{table(head, rows)}"
