"""Folders of tensors and facts on disk: safetensors beside JSON, whole or refused.

A folder is written under a temporary name and renamed, so a kill leaves the old one or the new one.
The JSON carries the SHA-256 of the tensors, so a truncated or altered file is refused. Nothing is
pickled, and nothing read from a folder is ever executed.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor

__all__ = [
    "CheckpointError",
    "is_saved",
    "load_folder",
    "load_frozen",
    "load_parameters",
    "save_folder",
]


Network = TypeVar("Network", bound=torch.nn.Module)


class CheckpointError(ValueError):
    """A checkpoint is missing, truncated, altered or of a format this version does not know."""


def save_folder(folder: str | Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Path:
    """Write tensors and JSON facts as one folder, replacing an older one as a whole.

    Args:
        folder: Where; its parents are made.
        tensors: By name; stored on the CPU, contiguous.
        facts: Anything JSON can hold.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # clones, because safetensors refuses tensors that share storage
    blob = save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()})
    facts = {**facts, "sha256": hashlib.sha256(blob).hexdigest()}
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(temporary / "tensors.safetensors", blob)
        _write(temporary / "facts.json", json.dumps(facts, indent=2).encode())
        temporary.chmod(0o755)
        if is_saved(folder):
            shutil.rmtree(_retired(folder), ignore_errors=True)
            os.replace(folder, _retired(folder))
        os.replace(temporary, folder)
        shutil.rmtree(_retired(folder), ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def is_saved(folder: str | Path) -> bool:
    """Whether there is such a folder; one that a kill left between two renames is put back."""
    folder = Path(folder)
    if not folder.exists() and _retired(folder).exists():
        os.replace(_retired(folder), folder)
    return folder.exists()


def load_folder(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a folder that `save_folder` wrote.

    Raises:
        CheckpointError: If a file is missing, cannot be read, or its checksum does not match.
    """
    folder = Path(folder)
    is_saved(folder)
    try:
        facts = json.loads((folder / "facts.json").read_text())
        blob = (folder / "tensors.safetensors").read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no checkpoint: {error.filename} is missing") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder}/facts.json is not JSON: {error}") from error
    if not isinstance(facts, dict) or "sha256" not in facts:
        raise CheckpointError(f"{folder}/facts.json has no checksum")
    found = hashlib.sha256(blob).hexdigest()
    if found != facts.pop("sha256"):
        raise CheckpointError(
            f"{folder}/tensors.safetensors is truncated or altered: its checksum is not the one in "
            f"facts.json ({len(blob)} bytes, sha256 {found[:12]}...)"
        )
    return load(blob), facts


def load_parameters(module: torch.nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Copy named tensors into a module, naming what does not fit.

    Raises:
        CheckpointError: If names or shapes differ.
    """
    own = module.state_dict()
    state = {k: v.to(own[k].dtype) if k in own else v for k, v in tensors.items()}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{source} does not fit {type(module).__name__}: {error}") from error


def load_frozen(folder: Path, kind: str, build: type[Network]) -> Network:
    """A frozen network from a folder whose facts name its kind and its constructor's arguments.

    Args:
        folder: Where it was saved.
        kind: What the folder must say that it holds.
        build: Class of the network.

    Raises:
        CheckpointError: If the folder is damaged, or holds something else.
    """
    tensors, facts = load_folder(folder)
    if facts.get("network") != kind:
        raise CheckpointError(f"{folder} holds no {kind}, but {facts.get('network')!r}")
    network = build(**facts["arguments"])
    load_parameters(network, tensors, str(folder))
    return network.eval().requires_grad_(False)


def _retired(folder: Path) -> Path:
    """Where a folder waits while its successor takes its name."""
    return folder.with_name(f".{folder.name}-old")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
