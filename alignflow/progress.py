"""A progress bar on the terminal, and the one that a training shows of itself."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Update", "console", "progress_bar", "watched"]

console = Console(stderr=True)

P = ParamSpec("P")
R = TypeVar("R")

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


def watched(train: Callable[P, R]) -> Callable[P, R]:
    """A training that shows a bar where it is given no `progress` and stderr is a terminal."""

    @wraps(train)
    def shown(*arguments: P.args, **options: P.kwargs) -> R:
        if options.get("progress") is not None or not sys.stderr.isatty():
            return train(*arguments, **options)
        with progress_bar(train.__name__) as update:
            options["progress"] = update
            return train(*arguments, **options)

    return shown
