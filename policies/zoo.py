"""The models that come with the package, by name."""

import os
from pathlib import Path

from torch import nn

from alignflow.checkpoint import CheckpointError, as_folder
from alignflow.checks import did_you_mean, shown
from alignflow.decoding import Decoder

from .loading import load_policy
from .policy import FlowMapPolicy

__all__ = ["load", "shipped"]

_SHIPPED = Path(__file__).parent / "shipped"


def shipped() -> list[str]:
    """Names of the shipped models."""
    return sorted(path.parent.name for path in _SHIPPED.glob("*/facts.json"))


def load(
    name: str | Path,
    module: nn.Module | None = None,
    decode: str | Decoder | None = None,
    *,
    allow_nonfinite: bool = False,
) -> FlowMapPolicy:
    """A shipped model by name, or a folder that `policy.save` wrote.

    Args:
        name: One of `shipped()`, or a folder's path.
        module: For a folder whose network is not registered: an instance to hold its weights.
        decode: For a folder whose decoder is not registered: an instance to hold its weights.
        allow_nonfinite: Whether weights that are NaN or infinite are let through.

    Raises:
        CheckpointError: If there is no such model, or the folder is damaged.
    """
    folder = as_folder(name)
    if str(folder) in shipped():
        folder = _SHIPPED / folder
    elif not os.path.isdir(folder):
        raise CheckpointError(
            f"{shown(str(folder))} is neither a shipped model ({', '.join(shipped())}) nor a "
            f"folder{did_you_mean(str(folder), shipped())}"
        )
    return load_policy(folder, module, decode, allow_nonfinite=allow_nonfinite)
