"""Data sets drawn by a program: image number i is the same one every time, and is drawn once."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from torch import Tensor, from_numpy

__all__ = ["drawn"]

_CHUNK = 500


def drawn(
    path: Path, draw: Callable[[int], tuple], numbers: Sequence[int], fields: Sequence[str]
) -> list[Tensor]:
    """What `draw` gives for each number, stacked field by field; from the file if it is there.

    Args:
        path: The cache, a compressed npz; its name must change with whatever `draw` depends on.
        draw: A call of (number) that gives one array or number for each field; it lives at the top
            of a module, so that other processes can run it.
        numbers: Whose images are drawn.
        fields: Names of the arrays in the file.

    Returns:
        One tensor (len(numbers), ...) for each field.

    Raises:
        ValueError: If there are no numbers, or one is below 0.
    """
    if len(numbers) == 0 or min(numbers) < 0:
        raise ValueError(f"n must be at least 1 and first at least 0, asked for {numbers}")
    if not path.exists():
        columns = zip(*_draw_all(draw, numbers, path.stem), strict=True)
        _write(path, dict(zip(fields, map(np.stack, columns), strict=True)))
    with np.load(path) as stored:
        return [from_numpy(stored[field]) for field in fields]


def _draw_all(draw: Callable[[int], tuple], numbers: Sequence[int], what: str) -> list[tuple]:
    if len(numbers) <= _CHUNK:
        return [draw(number) for number in numbers]
    from rich.progress import track

    with ProcessPoolExecutor() as pool:
        images = pool.map(draw, numbers, chunksize=_CHUNK)
        return list(track(images, description=f"drawing {what}", total=len(numbers)))


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Under a name of our own first: nobody ever reads a half-written cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    with temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    temporary.replace(path)
