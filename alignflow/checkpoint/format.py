"""File names and hashes of a saved folder."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from alignflow.checks import shown

from .untrusted import parse_json, read_at_most

__all__ = [
    "FACTS",
    "TEMPORARY",
    "TENSORS",
    "CheckpointError",
    "as_folder",
    "check_finite",
    "pending_name",
    "place_of",
    "read_facts",
    "refusing",
    "retired_name",
    "sha256",
    "written",
]

FACTS, TENSORS = "facts.json", "tensors.safetensors"
CHECKSUM = "sha256"
LONGEST_FACTS = 2**24  # bytes
TEMPORARY = re.compile(r"\.[0-9a-f]{64}\.(facts\.json\.part|tensors\.safetensors(\.part)?)")
_HASH = re.compile("[0-9a-f]{64}")


class CheckpointError(ValueError):
    """A checkpoint is missing, truncated, altered or of a format this version does not know."""


def as_folder(folder: str | Path) -> Path:
    """A folder's path, whatever it was given as.

    Raises:
        CheckpointError: If it is no path, or an empty one.
    """
    name = os.fspath(folder) if isinstance(folder, str | os.PathLike) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise CheckpointError(f"a folder must be given by its path, got {shown(folder)}")
    return Path(name)


def written(facts: dict[str, Any], tensors: str) -> bytes:
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


def read_facts(place: Path) -> tuple[dict[str, Any], str, list[str]]:
    """Facts, the hash of their tensors, and messages if the facts do not fit their hash."""
    path = place / FACTS
    with refusing(path):
        facts = parse_json(read_at_most(path, LONGEST_FACTS))
        checksum = facts.pop(CHECKSUM, None) if isinstance(facts, dict) else None
        match checksum:
            case {"tensors": str(tensors), "facts": str(signed), **more} if _is_hash(tensors):
                sound = signed == _signed(facts, tensors) and not more
            case str(tensors) if _is_hash(tensors):
                sound = True  # older versions hashed the tensors alone
            case _:
                raise CheckpointError(f"{path} has no checksum")
    return facts, tensors, [] if sound else [f"{path} is altered: its checksum does not match"]


@contextlib.contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Errors inside become a CheckpointError that names the file."""
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


def check_finite(tensors: dict[str, Tensor], folder: Path) -> None:
    """Refuse a tensor with numbers that are none, by its name."""
    for name, tensor in tensors.items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        # of one byte they must be wider to be asked
        finite = torch.isfinite(tensor.float() if tensor.dtype.itemsize == 1 else tensor)
        if not finite.all():
            raise CheckpointError(
                f"{folder}: {name} has {(~finite).sum()} of {finite.numel()} numbers that are "
                "NaN or infinite (allow_nonfinite=True lets them through)"
            )


def pending_name(tensors: str) -> str:
    """Name of tensors that facts name already, before they are renamed for the last time."""
    return f".{tensors}.{TENSORS}"


def place_of(folder: Path) -> Path:
    """Where a folder is read: older versions could be killed while it had another name."""
    retired = retired_name(folder)
    return retired if not os.path.lexists(folder) and os.path.lexists(retired) else folder


def retired_name(folder: Path) -> Path:
    """The name that older versions gave a folder while its successor took its place."""
    return folder.with_name(f".{folder.name}-old") if folder.name not in ("", "..") else folder


def sha256(content: bytes) -> str:
    """The hash of some bytes, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _is_hash(text: str) -> bool:
    """Whether it can become part of a file's name."""
    return _HASH.fullmatch(text) is not None


def _signed(facts: dict[str, Any], tensors: str) -> str:
    """The hash of the facts and of the tensors' hash together."""
    return sha256((json.dumps(facts, sort_keys=True) + tensors).encode())
