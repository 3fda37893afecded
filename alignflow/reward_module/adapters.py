"""Rewards written for other libraries, as ours."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from alignflow import checks

from .interface import Reward

__all__ = ["from_scores"]


def from_scores(
    function: Callable[[Tensor, list, list], Any],
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    on_invalid: str = "raise",
) -> Reward:
    """A reward `fn(images, prompts, metadata) -> (scores, info)`, as DDPO and its heirs write it.

    It is a black box. The info is dropped.

    Args:
        function: Given the decoded samples (N, C, H, W) in [0, 1], N prompts and N mappings.
            It may also return the scores alone.
        name: What errors and reports call it; by default the function's name.
        metadata: What every sample is given as metadata; an empty mapping by default.
        on_invalid: As in `Reward`.
    """
    if not callable(function):
        raise ValueError(f"function must be a callable, got {checks.shown(function)}")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise ValueError(f"metadata must be a mapping, got {checks.shown(metadata)}")
    scores = partial(_scores, function, dict(metadata or {}))
    return Reward(scores, name or getattr(function, "__name__", None), on_invalid=on_invalid)


def _scores(function: Callable, metadata: dict[str, Any], endpoint: Any, condition=None) -> Any:
    n = len(endpoint)
    answer = function(endpoint, _prompts(condition, n), [dict(metadata) for _ in range(n)])
    return answer[0] if isinstance(answer, tuple) and len(answer) == 2 else answer


def _prompts(condition: Any, n: int) -> list:
    """One prompt for each of n samples; a single one holds for all, and none is the empty text."""
    if condition is None:
        return [""] * n
    if isinstance(condition, Tensor | np.ndarray):
        condition = condition.tolist()
    several = isinstance(condition, Sequence) and not isinstance(condition, str)
    prompts = list(condition) if several else [condition]
    if len(prompts) not in (1, n):
        raise ValueError(f"there are {len(prompts)} prompts for {n} samples")
    return prompts if len(prompts) == n else prompts * n
