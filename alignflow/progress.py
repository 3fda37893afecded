"""A progress bar on the terminal, and the one that a training shows of itself."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Update", "console", "default_bar", "progress_bar"]

console = Console(stderr=True)

Update = Callable[[int, int, dict[str, float]], None]


@contextmanager
def progress_bar(title: str) -> Iterator[Update]:
    """A bar with the time left; what it yields is called as (done, of, metrics)."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}", style="dim"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=None, shown="")

        def update(done: int, of: int, metrics: dict[str, float]) -> None:
            shown = "  ".join(
                f"{name} {value:.4g}"
                for name, value in metrics.items()
                if name.startswith(("loss", "reward"))
            )
            progress.update(task, completed=done, total=of, shown=shown)

        yield update


@contextmanager
def default_bar(given: Update | None, title: str = "training") -> Iterator[Update]:
    """What is given; or a bar, where somebody watches a terminal; or nothing."""
    if given is not None:
        yield given
    elif sys.stderr.isatty():
        with progress_bar(title) as update:
            yield update
    else:
        yield lambda done, of, metrics: None
