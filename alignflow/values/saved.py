"""Learned values read from folders. A folder may be anybody's: nothing in it is executed."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from alignflow import checks
from alignflow.checkpoint import (
    CheckpointError,
    build_without_memory,
    fact,
    load_folder,
    load_parameters,
    registered_network,
)

from .learned_value import FORMAT, KIND, LearnedValue

__all__ = ["load_value"]

DTYPES = ("float16", "bfloat16", "float32", "float64")


def load_value(
    folder: str | Path, network: nn.Module | None = None, *, allow_nonfinite: bool = False
) -> LearnedValue:
    """Read a value that `LearnedValue.save` wrote, frozen.

    Args:
        folder: Its folder.
        network: For a folder whose network is not registered: an instance to hold its weights.
        allow_nonfinite: Whether weights that are NaN or infinite are let through.

    Raises:
        CheckpointError: If the folder is damaged, holds no value, or names no registered network.
    """
    if network is not None:
        checks.instance("network", network, nn.Module, "an instance of a torch.nn.Module")

    def make(facts: dict[str, Any]) -> LearnedValue:
        way = "af.load_value(folder, network=MyNet())"
        found = registered_network(facts, folder, way)() if network is None else network
        return _described(found, facts, folder)

    def check(facts: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
        if facts.get("kind") != KIND:
            raise CheckpointError(f"{folder} holds no learned value; af.load reads a policy")
        if fact(facts, "format", int, folder) != FORMAT:
            raise CheckpointError(f"{folder} has format {facts['format']}, expected {FORMAT}")
        if fact(facts, "dtype", str, folder) not in DTYPES:
            raise CheckpointError(f"{folder} names a dtype that is none of {', '.join(DTYPES)}")
        if network is None:
            build_without_memory(lambda: make(facts), shapes, folder)

    tensors, facts = load_folder(folder, check, allow_nonfinite=allow_nonfinite)
    value = make(facts).to(getattr(torch, facts["dtype"]))
    load_parameters(value, tensors, folder)
    return value.eval().requires_grad_(False)


def _described(network: nn.Module, facts: dict[str, Any], folder: str | Path) -> LearnedValue:
    try:
        return LearnedValue(
            network,
            fact(facts, "reward", str, folder),
            fact(facts, "policy", str, folder),
            [checks.count("event_shape", n) for n in fact(facts, "event_shape", list, folder)],
            fact(facts, "strengths", list, folder),
            fact(facts, "data_std", float, folder),
            fact(facts, "facts", dict, folder),
        )
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{folder} holds no learned value: {error}") from error
