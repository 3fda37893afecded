"""Data sets drawn by a program: image number i is always the same, and is drawn once."""

import glob
import io
import os
import re
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from torch import Tensor, from_numpy

from alignflow.checkpoint.writing import only_writer, write_atomically

__all__ = ["drawn"]

_CHUNK = 500
_TEMPORARY = re.compile(r"\.\d+-")  # what stands before the name of a cache that is being written


def drawn(
    path: Path, draw: Callable[[int], tuple], numbers: Sequence[int], fields: Sequence[str]
) -> list[Tensor]:
    """The results of `draw`, stacked field by field; from the file if it is there.

    Args:
        path: The cache, a compressed npz; its name must change with whatever `draw` depends on.
        draw: A callable (number) -> one array or number for each field; at the top of a module,
            so that other processes can run it.
        numbers: Whose images are drawn.
        fields: Names of the arrays in the file.

    Returns:
        One tensor (len(numbers), ...) for each field.

    Raises:
        ValueError: If there are no numbers, or one is below 0.
    """
    if len(numbers) == 0 or min(numbers) < 0:
        raise ValueError(f"n must be at least 1 and first at least 0, asked for {numbers}")
    arrays = _read(path, fields, len(numbers)) if path.exists() else None
    if arrays is None:
        columns = zip(*_draw_all(draw, numbers, path.stem), strict=True)
        arrays = [np.stack(column) for column in columns]
        _write(path, dict(zip(fields, arrays, strict=True)))
    return [from_numpy(array) for array in arrays]


def _draw_all(draw: Callable[[int], tuple], numbers: Sequence[int], what: str) -> list[tuple]:
    if len(numbers) <= _CHUNK:
        return [draw(number) for number in numbers]
    from rich.progress import track

    with ProcessPoolExecutor() as pool:
        images = pool.map(draw, numbers, chunksize=_CHUNK)
        return list(track(images, description=f"drawing {what}", total=len(numbers)))


def _read(path: Path, fields: Sequence[str], n: int) -> list[np.ndarray] | None:
    """The arrays of a cache; None, with a warning, if it is damaged."""
    try:
        with np.load(path) as stored:
            arrays = [stored[field] for field in fields]
        if {len(array) for array in arrays} != {n}:
            raise ValueError(f"it must hold {n} rows")
        return arrays
    except Exception as error:  # which of a dozen classes depends on the byte
        warnings.warn(f"{path} is damaged and drawn anew: {error}", stacklevel=3)
        return None


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with only_writer(path.parent) as alone:
        if alone:
            # what those left that were killed here
            for left in path.parent.glob(f".*-{glob.escape(path.name)}"):
                if _TEMPORARY.fullmatch(left.name.removesuffix(path.name)):
                    left.unlink()
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **arrays)
        temporary = path.with_name(f".{os.getpid()}-{path.name}")
        write_atomically(path, content.getvalue(), temporary)
