"""Reading untrusted files: regular files only, strict JSON, headers of tensors.

A FIFO never blocks, no number that a file names reserves memory, and nothing is executed. What is
wrong is a ValueError without the path, which the caller knows.
"""

import json
import math
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["open_regular", "parse_json", "read_at_most", "tensor_shapes"]

_LENGTH = 8  # bytes of a safetensors file that say how long its header is
_LONGEST_HEADER = 100_000_000  # that the format allows


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read its bytes; links are followed.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is something else: a folder, a FIFO, a socket, a device.
    """
    # asked before it is opened, because opening a device can do things, and after, because
    # another file may have taken the name; without blocking, because a FIFO waits for a writer
    _check_regular(os.stat(path).st_mode)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        _check_regular(os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_at_most(path: Path, size: int) -> bytes:
    """The bytes of a regular file of at most so many.

    Raises:
        OSError: As `open_regular`.
        ValueError: If it is longer, or no regular file.
    """
    with open_regular(path) as file:
        content = file.read(size + 1)
    if len(content) > size:
        raise ValueError(f"it is longer than {size} bytes")
    return content


def parse_json(content: bytes) -> Any:
    """Strict JSON: no key twice, no NaN or infinity, bounded depth.

    Raises:
        ValueError: If it is no such JSON.
    """
    try:
        return json.loads(
            content.decode(),
            object_pairs_hook=_without_repeats,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def tensor_shapes(file: BinaryIO) -> dict[str, tuple[int, ...]]:
    """Shapes by name from the header of a safetensors file, which must fill the file exactly.

    Raises:
        ValueError: If the header is none, or the file is shorter or longer than it says.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(_LENGTH), "little")
    if not 0 < length <= min(size - _LENGTH, _LONGEST_HEADER):
        raise ValueError(f"its header of {length} bytes does not fit into {size} bytes")
    header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no table of tensors")
    shapes, end = {}, 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape, last = _shape_and_end(name, entry)
        shapes[name], end = shape, max(end, last)
    if _LENGTH + length + end != size:
        raise ValueError(f"it has {size} bytes where its header wants {_LENGTH + length + end}")
    return shapes


def _shape_and_end(name: str, entry: Any) -> tuple[tuple[int, ...], int]:
    entry = entry if isinstance(entry, dict) else {}
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"its header has no shape and place for {name!r}")
    return tuple(shape), offsets[1]


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ValueError("it is no regular file")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"it has the key {name!r} twice")
        found[name] = value
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no number")
    return number
