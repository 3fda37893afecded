"""Networks rebuilt from the facts of a folder, which are untrusted.

A network is first built without memory, and no further than the folder's file has tensors for. Only
one whose tensors are those of the file, in name and shape, is built in earnest.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from alignflow.checks import shown

from .format import CheckpointError
from .reading import Shapes, fact, load_folder

__all__ = [
    "NETWORKS",
    "build_without_memory",
    "load_frozen",
    "load_parameters",
    "registered_name",
    "registered_network",
]

NETWORKS: dict[str, type[nn.Module]] = {}
"""Networks that a saved folder may name; nothing else is ever built from one. Each keeps its
constructor's `arguments`, from which it is built again. `alignflow.policies` enters its own."""

Network = TypeVar("Network", bound=nn.Module)


def load_frozen(folder: Path, kind: str, build: type[Network]) -> Network:
    """A frozen network from a folder whose facts name its kind and its constructor's arguments.

    Args:
        folder: Where it was saved.
        kind: What the folder must say that it holds.
        build: Class of the network.

    Raises:
        CheckpointError: If the folder is damaged, or holds something else.
    """

    def check(facts: dict[str, Any], shapes: Shapes) -> None:
        if facts.get("network") != kind:
            raise CheckpointError(f"{folder} holds no {kind}, but {shown(facts.get('network'))}")
        arguments = fact(facts, "arguments", dict, folder)
        build_without_memory(partial(build, **arguments), shapes, folder)

    tensors, facts = load_folder(folder, check)
    network = build(**facts["arguments"])
    load_parameters(network, tensors, folder)
    return network.eval().requires_grad_(False)


def registered_name(network: nn.Module) -> str | None:
    """The name of a network's class; None if it is not registered."""
    return {kind: name for name, kind in NETWORKS.items()}.get(type(network))


def registered_network(
    facts: dict[str, Any], folder: str | Path, way: str
) -> Callable[[], nn.Module]:
    """What makes the registered network that a folder names.

    Args:
        facts: Of the folder: `network` and its `arguments`.
        folder: For the error.
        way: How a network that is not registered is given.

    Raises:
        CheckpointError: If it names none.
    """
    name = facts.get("network")
    if not isinstance(name, str) or name not in NETWORKS:
        raise CheckpointError(
            f"{folder} holds a network that is not registered ({shown(name)}, known: "
            f"{', '.join(NETWORKS)}): pass it, {way}"
        )
    return partial(NETWORKS[name], **fact(facts, "arguments", dict, folder))


def build_without_memory(
    build: Callable[[], Network], shapes: Shapes, source: str | Path
) -> Network:
    """A network on the meta device, whose tensors have the names and shapes of a file's.

    Args:
        build: Makes it.
        shapes: Of the file's tensors by name.
        source: Of the file, for errors.

    Raises:
        CheckpointError: If it cannot be built, or its tensors are others.
    """
    try:
        # twice what it holds, so that a network a little too large is told what does not fit
        with torch.device("meta"), _Counted(100 + 2 * len(shapes)):
            network = build()
    except Exception as error:  # whatever a stranger's arguments may bring about
        reason = str(error).partition("\n")[0]  # torch adds a trace of its wanted
        raise CheckpointError(f"{source} names no network that can be built: {reason}") from error
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for name in sorted(wanted.keys() | shapes.keys()):
        if wanted.get(name) != shapes.get(name):
            raise CheckpointError(
                f"{source} does not fit {type(network).__name__}: {name} must be "
                f"{wanted.get(name, 'absent')}, and is {shapes.get(name, 'absent')}"
            )
    return network


def load_parameters(module: nn.Module, tensors: dict[str, Tensor], source: str | Path) -> None:
    """Copy named tensors into a module, naming what does not fit.

    Raises:
        CheckpointError: If names or shapes differ, or numbers are whole on one side only.
    """
    wanted, misfit = module.state_dict(), f"{source} does not fit {type(module).__name__}"
    for name, value in tensors.items():
        if name in wanted and wanted[name].is_floating_point() != value.is_floating_point():
            raise CheckpointError(
                f"{misfit}: {name} must be {wanted[name].dtype}, and is {value.dtype}"
            )
    state = {k: v.to(wanted[k].dtype) if k in wanted else v for k, v in tensors.items()}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{misfit}: {error}") from error


class _Counted(TorchFunctionMode):
    """Limits the number of parameters that are created, in this thread alone."""

    def __init__(self, most: int):
        super().__init__()
        self.left = most

    def __torch_function__(self, func, types, args=(), kwargs=None):
        # what every layer makes its parameters by; an error in any other call could come while
        # torch puts a setting back, as at the end of no_grad
        if func is torch.empty:
            self.left -= 1
            if self.left < 0:
                raise RuntimeError("it is larger than the file that holds its weights")
        return func(*args, **(kwargs or {}))
