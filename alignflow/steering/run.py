"""How nodes are run: on rows of a batch, with the model frozen, with errors that say where."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from tensordict import TensorDictBase
from torch import nn

from alignflow.reward_module import RewardError

from .nodes import Group

__all__ = ["frozen", "naming_step", "run_rows"]


def run_rows(group: Group, tensordict: TensorDictBase) -> TensorDictBase:
    """Run nodes one after the other; a graph is built only for a gradient, and not kept."""
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
