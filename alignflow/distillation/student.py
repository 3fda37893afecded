"""The copy of a policy that is trained in its place."""

import copy
from typing import TypeVar

from alignflow.flow_map import FlowMap

__all__ = ["student"]


Policy = TypeVar("Policy", bound=FlowMap)


def student(policy: Policy) -> Policy:
    """A copy to train: the parameters that take a gradient, or all of them if none does.

    An averaged policy takes none, and is trained further as a whole.
    """
    copied = copy.deepcopy(policy)
    if not any(p.requires_grad for p in copied.parameters()):
        copied.requires_grad_(True)
    return copied.train()
