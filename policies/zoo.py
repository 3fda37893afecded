"""The models that come with the package, by name."""

from pathlib import Path

from torch import nn

from alignflow.checkpoint import CheckpointError

from .policy import FlowMapPolicy, load_policy

__all__ = ["load", "shipped"]

_SHIPPED = Path(__file__).parent / "shipped"


def shipped() -> list[str]:
    """Names of the shipped models."""
    return sorted(path.parent.name for path in _SHIPPED.glob("*/facts.json"))


def load(name: str | Path, module: nn.Module | None = None) -> FlowMapPolicy:
    """A shipped model by name, or a folder that `policy.save` wrote.

    Args:
        name: One of `shipped()`, or a folder's path.
        module: For a folder whose network is your own: an instance to hold its weights.

    Raises:
        CheckpointError: If there is no such model, or the folder is damaged.
    """
    if str(name) in shipped():
        return load_policy(_SHIPPED / str(name), module)
    if Path(name).is_dir():
        return load_policy(name, module)
    raise CheckpointError(
        f"{str(name)!r} is neither a shipped model ({', '.join(shipped())}) nor a folder"
    )
