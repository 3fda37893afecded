"""Loading a folder, which is untrusted and may be replaced meanwhile."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load
from torch import Tensor

from alignflow.checks import shown

from .format import (
    FACTS,
    TEMPORARY,
    TENSORS,
    CheckpointError,
    as_folder,
    check_finite,
    pending_name,
    place_of,
    read_facts,
    refusing,
    sha256,
)
from .untrusted import open_regular, tensor_shapes

__all__ = ["Check", "Shapes", "fact", "is_saved", "load_folder"]

TRIES = 50  # reads of a folder that is replaced meanwhile, each time

T = TypeVar("T")
Shapes = dict[str, tuple[int, ...]]
Check = Callable[[dict[str, Any], Shapes], None]


def is_saved(folder: str | Path) -> bool:
    """Whether anything stands there but what a first save left that was killed.

    Whether it is sound, or ours, shows in loading.
    """
    place = place_of(as_folder(folder))
    if not os.path.isdir(place):
        return os.path.lexists(place)
    return any(not TEMPORARY.fullmatch(name) for name in os.listdir(place))


def load_folder(
    folder: str | Path, check: Check | None = None, *, allow_nonfinite: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a folder that `save_folder` wrote.

    Args:
        folder: Where.
        check: A callable (facts, shapes of the tensors by name) that raises CheckpointError to
            refuse them, before any tensor is read.
        allow_nonfinite: Whether NaN and infinities among the tensors are let through.

    Raises:
        CheckpointError: If a file is missing or cannot be read, does not hold what it should, or
            its checksum does not match; or if `check` refuses it, or a tensor has NaN or
            infinities.
    """
    folder, tries = as_folder(folder), 0
    while True:
        before = _signature(folder)
        try:
            tensors, facts = _read(folder, check)
            break
        except CheckpointError:
            tries += 1
            # a save may have come between the two files
            if tries == TRIES or _signature(folder) == before:
                raise
    if not allow_nonfinite:
        check_finite(tensors, folder)
    return tensors, facts


def fact(facts: dict[str, Any], name: str, kind: type[T], source: str | Path) -> T:
    """One of the facts of a folder, which must be of a type; a whole number will do for a float.

    Raises:
        CheckpointError: If it is missing or of another type.
    """
    if name not in facts:
        raise CheckpointError(f"{source}/{FACTS} lacks {name!r}")
    value = facts[name]
    if kind is float and type(value) is int and abs(value) < 2**64:
        return kind(value)
    # exactly this type, because to Python true is a whole number
    if type(value) is not kind:
        raise CheckpointError(
            f"{source}/{FACTS}: {name} must be of type {kind.__name__}, got {shown(value)}"
        )
    return value


def _read(folder: Path, check: Check | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    place = place_of(folder)
    facts, digest, altered = read_facts(place)
    path = place / pending_name(digest)
    if not os.path.lexists(path):
        path = place / TENSORS
    with refusing(path), open_regular(path) as file:
        shapes = tensor_shapes(file)
        if check is not None:
            try:
                check(facts, shapes)
            except CheckpointError as error:
                raise CheckpointError("; ".join([str(error), *altered])) from error
        for message in altered:
            raise CheckpointError(message)
        file.seek(0)
        blob = file.read()
        if (found := sha256(blob)) != digest:
            raise ValueError(
                f"its checksum is not the one in {FACTS} ({len(blob)} bytes, {found[:12]}...)"
            )
        return load(blob), facts


def _signature(folder: Path) -> list[tuple[int, int, int] | None]:
    """Changes whenever a save replaces one of the two files."""
    found = []
    for name in (FACTS, TENSORS):
        try:
            status = os.stat(place_of(folder) / name)
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        except (OSError, ValueError):
            found.append(None)
    return found
