"""Saving a folder atomically: it replaces only a saved folder, and has one writer at a time."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from .format import (
    FACTS,
    TEMPORARY,
    TENSORS,
    CheckpointError,
    as_folder,
    check_finite,
    pending_name,
    read_facts,
    retired_name,
    sha256,
    written,
)

try:
    import fcntl
except ImportError:  # a system without it has no lock of folders either
    fcntl = None

__all__ = ["only_writer", "save_folder", "write_atomically"]


def save_folder(
    folder: str | Path,
    tensors: dict[str, Tensor],
    facts: dict[str, Any],
    *,
    allow_nonfinite: bool = False,
) -> Path:
    """Write tensors and JSON facts as one folder, replacing an older one as a whole.

    Args:
        folder: Where; absent, empty, or a folder that this wrote. Its parents are made.
        tensors: By name; stored on the CPU, contiguous.
        facts: Anything JSON can hold.
        allow_nonfinite: Whether NaN and infinities among the tensors are meant to be there.

    Raises:
        CheckpointError: If something else stands there, which is left as it is, or a tensor has
            NaN or infinities.
        ValueError: If the facts cannot be written as JSON and read again.
    """
    folder = as_folder(folder)
    if not allow_nonfinite:
        check_finite(tensors, folder)
    # clones, because safetensors refuses tensors that share storage
    blob = save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()})
    digest = sha256(blob)
    text = written(facts, digest)
    _check_replaceable(folder)
    _put_back(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder) as alone:
        _settle(folder, alone)
        try:
            part = folder / f".{digest}.{TENSORS}.part"
            write_atomically(folder / pending_name(digest), blob, part)
            # from here on the new folder counts
            write_atomically(folder / FACTS, text, folder / f".{digest}.{FACTS}.part")
        finally:
            _settle(folder, alone)
    return folder


def write_atomically(path: Path, content: str | bytes, temporary: Path | None = None) -> None:
    """Write a file under another name and rename it: it is there as a whole, or not at all.

    Args:
        path: Of the file; its folder exists.
        content: A text is encoded as UTF-8.
        temporary: The other name, in the same folder; `.NAME.PROCESS.new` by default.
    """
    temporary = temporary or path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[bool]:
    """Wait until nobody else writes into a folder; whether its file system can tell.

    At the end, what the folder's entries are called is on the disk.
    """
    if fcntl is None:
        yield False
        return
    directory = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            alone = True
        except OSError:  # some network file systems have no locks of folders
            alone = False
        yield alone
        with contextlib.suppress(OSError):
            os.fsync(directory)
    finally:
        os.close(directory)


def _check_replaceable(folder: Path) -> None:
    """Refuse to save where anything but a checkpoint of ours stands."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder: it is left as it is, and nothing is saved")
    if strangers := _strangers(folder):
        some = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
        raise CheckpointError(
            f"{folder} holds more than a saved checkpoint ({some}): it is left as it is, and "
            "nothing is saved; name another folder, or an empty one"
        )


def _strangers(folder: Path) -> list[str]:
    """Names in a folder that `save_folder` did not write."""
    saved, strangers = [], []
    for entry in os.scandir(folder):
        if entry.name in (FACTS, TENSORS) and entry.is_file(follow_symlinks=False):
            saved.append(entry.name)
        elif not TEMPORARY.fullmatch(entry.name):
            strangers.append(entry.name)
    if saved and _named_tensors(folder) is None:
        strangers += saved
    return sorted(strangers)


def _named_tensors(folder: Path) -> str | None:
    """The hash of the tensors that a folder's facts name, if they are facts of ours."""
    try:
        return read_facts(folder)[1]
    except CheckpointError:
        return None


def _settle(folder: Path, alone: bool) -> None:
    """Finish a save that counts already, and remove the files of those that do not."""
    named = _named_tensors(folder)
    if named is not None and (pending := folder / pending_name(named)).exists():
        os.replace(pending, folder / TENSORS)
    for entry in os.scandir(folder) if alone else ():
        if TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            Path(entry.path).unlink(missing_ok=True)


def _put_back(folder: Path) -> None:
    """Give a folder its name back, which a kill of an older version took from it."""
    retired = retired_name(folder)
    if os.path.lexists(folder) or not os.path.isdir(retired) or _strangers(retired):
        return
    with contextlib.suppress(OSError):  # another writer was faster
        os.replace(retired, folder)
