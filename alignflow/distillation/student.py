"""What is trained in place of the policy that was handed in."""

import copy
from typing import TypeVar

from alignflow.flow_map import FlowMap

__all__ = ["student"]


Policy = TypeVar("Policy", bound=FlowMap)


def student(policy: Policy) -> Policy:
    """A copy to train: what takes a gradient in it, or all of it where nothing does.

    A policy that comes out of training takes none, and is trained further as a whole.
    """
    copied = copy.deepcopy(policy)
    if not any(p.requires_grad for p in copied.parameters()):
        copied.requires_grad_(True)
    return copied.train()
