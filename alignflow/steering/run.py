"""How nodes are run: on rows of a batch, with the model frozen, with errors that say where."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from tensordict import TensorDictBase
from torch import nn

from alignflow.reward_module import RewardError

from .nodes import Group

__all__ = ["frozen", "naming_step", "run_group"]


def run_group(
    group: Group, tensordict: TensorDictBase, micro_batch_size: int | None
) -> TensorDictBase:
    """Run nodes one after the other, so many rows at a time; the result does not depend on it.

    A graph is built only for a gradient, and none is kept.
    """
    size = len(tensordict) if micro_batch_size is None else micro_batch_size
    if size >= len(tensordict) or any(node.whole_batch for node in group):
        return _run_rows(group, tensordict)
    parts = []
    for index, part in enumerate(tensordict.split(size)):
        try:
            parts.append(_run_rows(group, part))
        except RewardError as error:
            message = f"{error}, counted from row {index * size} of {len(tensordict)}"
            raise RewardError(message) from (error.__cause__ or error)
    return cast(TensorDictBase, torch.cat(parts))


def _run_rows(group: Group, tensordict: TensorDictBase) -> TensorDictBase:
    differentiates = any(node.differentiates for node in group)
    with torch.set_grad_enabled(differentiates):
        if differentiates:
            tensordict["state"] = tensordict["state"].detach().requires_grad_()
        for node in group:
            tensordict = node(tensordict)
    return tensordict.detach() if differentiates else tensordict


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """No gradients for parameters and evaluation mode inside; as it was, outside."""
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    training = [m for module in modules for m in module.modules() if m.training]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        for module in training:
            module.training = False
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for module in training:
            module.training = True


@contextmanager
def naming_step(step: int, time: float) -> Iterator[None]:
    """A reward's error inside, with the step that met it."""
    try:
        yield
    except RewardError as error:
        message = f"at step {step} (time {time:.4g}): {error}"
        raise RewardError(message) from (error.__cause__ or error)
