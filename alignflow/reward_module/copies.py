"""Copies of what a reward is given, so that what it writes into them changes nothing else."""

import copy
from collections.abc import Mapping
from typing import Any

from tensordict import TensorDictBase
from torch import Tensor

__all__ = ["copied"]


def copied(values: Any, graph: bool = False) -> Any:
    """A copy of what a reward is given, which it may write into.

    Args:
        values: Decoded samples or conditions: a tensor, an array, or a list or mapping of such.
        graph: Whether tensors keep their graph.
    """
    if isinstance(values, Tensor | TensorDictBase):
        return values.clone() if graph else values.detach().clone()
    if isinstance(values, Mapping):
        return {key: copied(value, graph) for key, value in values.items()}
    if isinstance(values, list | tuple):
        copies = [copied(value, graph) for value in values]
        return copies if isinstance(values, list) else tuple(copies)
    return copy.deepcopy(values)
