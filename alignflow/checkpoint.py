"""Folders of tensors and facts on disk: safetensors beside JSON, whole or refused.

The two files are hashed together, so a truncated or altered one is refused. Each is written under
a name of its own and renamed. The facts, which name the hash of their tensors, are what makes a
save count: a kill at any moment leaves the old folder or the new one, and at most hidden files that
the next save removes. Reading writes nothing. Nothing is pickled, and nothing read from a folder is
ever executed.

facts.json                      the facts, the hash of the tensors, and the hash of both
tensors.safetensors             the tensors
.<hash>.tensors.safetensors     the tensors, for a moment between the renames of a save
.<hash>.<name>.part             what a save is writing
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from alignflow.checks import shown
from alignflow.untrusted import open_regular, parse_json, read_at_most, tensor_shapes

try:
    import fcntl
except ImportError:  # a system without it has no lock of folders either
    fcntl = None

__all__ = [
    "CheckpointError",
    "as_folder",
    "fact",
    "is_saved",
    "load_folder",
    "load_parameters",
    "save_folder",
]

FACTS, TENSORS = "facts.json", "tensors.safetensors"
CHECKSUM = "sha256"
LONGEST_FACTS = 2**24  # bytes
TRIES = 50  # reads of a folder that is replaced meanwhile, each time
_HASH = re.compile("[0-9a-f]{64}")
_TEMPORARY = re.compile(r"\.[0-9a-f]{64}\.(facts\.json\.part|tensors\.safetensors(\.part)?)")

T = TypeVar("T")
Check = Callable[[dict[str, Any], dict[str, tuple[int, ...]]], None]


class CheckpointError(ValueError):
    """A checkpoint is missing, truncated, altered or of a format this version does not know."""


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
        _check_finite(tensors, folder)
    # clones, because safetensors refuses tensors that share storage
    blob = save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()})
    digest = _sha256(blob)
    text = _written(facts, digest)
    _put_back(folder)
    _check_replaceable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_writer(folder):
        _settle(folder)
        try:
            _write(folder / _pending(digest), blob, folder / f".{digest}.{TENSORS}.part")
            # from here on the new folder counts
            _write(folder / FACTS, text, folder / f".{digest}.{FACTS}.part")
        finally:
            _settle(folder)
    return folder


def is_saved(folder: str | Path) -> bool:
    """Whether a folder holds what `save_folder` wrote; whether that is sound shows in loading."""
    return os.path.lexists(_place(as_folder(folder)) / FACTS)


def load_folder(
    folder: str | Path, check: Check | None = None, *, allow_nonfinite: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a folder that `save_folder` wrote.

    Args:
        folder: Where.
        check: A call of (facts, shapes of the tensors by name) that raises CheckpointError to
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
        _check_finite(tensors, folder)
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


def load_parameters(module: nn.Module, tensors: dict[str, Tensor], source: str | Path) -> None:
    """Copy named tensors into a module, naming what does not fit.

    Raises:
        CheckpointError: If names or shapes differ, or numbers are whole on one side only.
    """
    own, misfit = module.state_dict(), f"{source} does not fit {type(module).__name__}"
    for name, value in tensors.items():
        if name in own and own[name].is_floating_point() != value.is_floating_point():
            raise CheckpointError(
                f"{misfit}: {name} must be {own[name].dtype}, and is {value.dtype}"
            )
    state = {k: v.to(own[k].dtype) if k in own else v for k, v in tensors.items()}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{misfit}: {error}") from error


def as_folder(folder: str | Path) -> Path:
    """A folder's path, whatever it was given as.

    Raises:
        CheckpointError: If it is no path, or an empty one.
    """
    name = os.fspath(folder) if isinstance(folder, str | os.PathLike) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise CheckpointError(f"a folder must be given by its path, got {shown(folder)}")
    return Path(name)


def _written(facts: dict[str, Any], tensors: str) -> bytes:
    """The text of the facts with the checksum, which can be read again."""
    try:
        again = parse_json(json.dumps(facts, allow_nan=False).encode())
        checksum = {"tensors": tensors, "facts": _signed(again, tensors)}
        text = json.dumps(again | {CHECKSUM: checksum}, indent=2).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"facts must be what JSON can hold: {error}") from error
    if CHECKSUM in again or len(text) > LONGEST_FACTS:
        raise ValueError(f"facts must fit into {LONGEST_FACTS} bytes, without a {CHECKSUM!r}")
    return text


def _signed(facts: dict[str, Any], tensors: str) -> str:
    """The hash of the facts and of the tensors' hash together."""
    return _sha256((json.dumps(facts, sort_keys=True) + tensors).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(folder: Path, check: Check | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    place = _place(folder)
    facts, digest, altered = _read_facts(place)
    path = place / _pending(digest)
    if not os.path.lexists(path):
        path = place / TENSORS
    with _refusing(path), open_regular(path) as file:
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
        if (found := _sha256(blob)) != digest:
            raise ValueError(
                f"its checksum is not the one in {FACTS} ({len(blob)} bytes, {found[:12]}...)"
            )
        return load(blob), facts


def _read_facts(place: Path) -> tuple[dict[str, Any], str, list[str]]:
    """Facts, the hash of their tensors, and what their own hash says against them."""
    path = place / FACTS
    with _refusing(path):
        facts = parse_json(read_at_most(path, LONGEST_FACTS))
        checksum = facts.pop(CHECKSUM, None) if isinstance(facts, dict) else None
        match checksum:
            case {"tensors": str(tensors), "facts": str(signed)} if _HASH.fullmatch(tensors):
                sound = signed == _signed(facts, tensors)
            case str(tensors) if _HASH.fullmatch(tensors):
                sound = True  # older versions hashed the tensors alone
            case _:
                raise CheckpointError(f"{path} has no checksum")
    return facts, tensors, [] if sound else [f"{path} is altered: its checksum is not its own"]


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Whatever goes wrong with a file is a CheckpointError that names it."""
    try:
        yield
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} is no checkpoint: {path} is missing") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except MemoryError as error:
        raise CheckpointError(f"{path} does not fit into memory") from error
    # a header may name types and places that the format allows and torch does not
    except (ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} is truncated or altered: {error}") from error


def _check_finite(tensors: dict[str, Tensor], folder: Path) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() or tensor.is_complex():
            finite = torch.isfinite(tensor.float() if tensor.dtype.itemsize == 1 else tensor)
            if not finite.all():
                raise CheckpointError(
                    f"{folder}: {name} has {(~finite).sum()} of {finite.numel()} numbers that are "
                    "NaN or infinite (allow_nonfinite=True lets them through)"
                )


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
    kept, strangers = [], []
    for entry in os.scandir(folder):
        if entry.name in (FACTS, TENSORS) and entry.is_file(follow_symlinks=False):
            kept.append(entry.name)
        elif not _TEMPORARY.fullmatch(entry.name):
            strangers.append(entry.name)
    if kept and _named_tensors(folder) is None:
        strangers += kept
    return sorted(strangers)


def _named_tensors(folder: Path) -> str | None:
    """The hash of the tensors that a folder's facts name, if they are facts of ours."""
    try:
        return _read_facts(folder)[1]
    except CheckpointError:
        return None


def _settle(folder: Path) -> None:
    """Finish a save that counts already, and remove what others left that do not."""
    named = _named_tensors(folder)
    if named is not None and (pending := folder / _pending(named)).exists():
        os.replace(pending, folder / TENSORS)
    for entry in os.scandir(folder):
        if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            Path(entry.path).unlink(missing_ok=True)


@contextlib.contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Wait until nobody else writes into a folder; at the end, its entries are on the disk."""
    if fcntl is None:
        yield
        return
    directory = os.open(folder, os.O_RDONLY)
    try:
        # some network file systems have no locks: there, two writers are not kept apart
        with contextlib.suppress(OSError):
            fcntl.flock(directory, fcntl.LOCK_EX)
        yield
        os.fsync(directory)
    finally:
        os.close(directory)


def _pending(tensors: str) -> str:
    """Name of tensors that facts name already, and that have not taken their last name yet."""
    return f".{tensors}.{TENSORS}"


def _write(path: Path, content: bytes, part: Path) -> None:
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _signature(folder: Path) -> list[tuple[int, int, int] | None]:
    """Changes whenever a save replaces one of the two files."""
    found = []
    for name in (FACTS, TENSORS):
        try:
            status = os.stat(_place(folder) / name)
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        except (OSError, ValueError):
            found.append(None)
    return found


def _place(folder: Path) -> Path:
    """Where a folder is read: older versions could be killed while it had another name."""
    retired = _retired(folder)
    return retired if not os.path.lexists(folder) and os.path.lexists(retired) else folder


def _put_back(folder: Path) -> None:
    """Give a folder its name back, or remove what it replaced: both are left by older versions."""
    retired = _retired(folder)
    if not os.path.lexists(retired) or not retired.is_dir() or _strangers(retired):
        return
    with contextlib.suppress(OSError):  # another writer was faster
        if not os.path.lexists(folder):
            os.replace(retired, folder)
            return
        for name in (FACTS, TENSORS):
            (retired / name).unlink(missing_ok=True)
        retired.rmdir()


def _retired(folder: Path) -> Path:
    """The name that older versions gave a folder while its successor took its place."""
    return folder.with_name(f".{folder.name}-old") if folder.name not in ("", "..") else folder
