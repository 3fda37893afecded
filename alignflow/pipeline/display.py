"""What a run tells the person who waits for it: an estimate first, then progress."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from alignflow.progress import Update, console, progress_bar

__all__ = ["console", "progress_bar", "say_estimate", "training_bar"]

TIMED = 2.0  # seconds of training that an estimate is made from


@contextmanager
def training_bar(stage: str, device: str) -> Iterator[Update]:
    """A progress bar of a training that says, after its first steps, what the whole will take."""
    start = time.perf_counter()
    first: tuple[int, float] | None = None
    told = False
    with progress_bar(stage) as show:

        def update(step: int, steps: int, metrics: dict[str, float]) -> None:
            nonlocal first, told
            now = time.perf_counter()
            # the first step is left out of the rate: whatever happens once happens in it; a tuning
            # in parts counts each from its first step
            if first is None or step <= first[0]:
                first = step, now
            elif not told and now - first[1] > TIMED:
                told = True
                left = (now - first[1]) / (step - first[0]) * (steps - step)
                say_estimate(stage, now - start + left, device)
            show(step, steps, metrics)

        yield update


def say_estimate(stage: str, seconds: float, device: str) -> None:
    """Print the time and memory that a stage will take."""
    memory = peak_memory(device) / 2**30
    console.print(f"{stage}: about {duration(seconds)}, {memory:.1f} GiB of memory", style="cyan")


def duration(seconds: float) -> str:
    """Seconds in words: 40 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def peak_memory(device: str) -> int:
    """Most bytes in use so far: on the GPU, or by the whole process."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024  # kibibytes on Linux
