"""A strength that is chosen at sampling: its range, and how it stands beside a condition.

A model that takes one is given a mapping with the key `strength`, a number or (N,), and, where
there is a condition too, `condition`. A mapping has rows as any condition has, so that particles,
pools and batches carry a strength for each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.conditions import as_given

__all__ = ["StrengthRange", "strength_of", "with_strength", "without_strength"]


@dataclass(frozen=True)
class StrengthRange:
    """The strengths that one tuning is for.

    Args:
        lower: Least, not negative.
        upper: Largest, above it.

    Raises:
        ValueError: If they are no such numbers.
    """

    lower: float
    upper: float

    def __post_init__(self):
        lower = checks.nonnegative("the lower strength", self.lower)
        upper = checks.nonnegative("the upper strength", self.upper)
        if lower >= upper:
            raise ValueError(
                f"a range of strengths must run from a lower to a larger one, got "
                f"strength=({lower:g}, {upper:g})"
            )

    def __str__(self) -> str:
        return f"from {self.lower:g} to {self.upper:g}"

    def checked(self, strength: float | Tensor) -> Tensor:
        """A strength as a tensor, () or (N,); on a GPU the numbers are not looked at.

        Raises:
            ValueError: If it has another shape, or lies outside of the range.
        """
        found = checks.as_tensor("strength", strength)
        if found.ndim > 1 or not found.numel() or found.is_complex():
            raise ValueError(
                f"strength must be a number, or one for each sample, got shape {tuple(found.shape)}"
            )
        if found.device.type == "cpu":
            least, most = (float(bound) for bound in found.double().aminmax())
            if not (self.lower <= least and most <= self.upper):  # NaN neither
                wrong = most if least >= self.lower else least
                raise ValueError(f"this policy was tuned for strengths {self}, got {wrong:g}")
        return found


def with_strength(condition: Any, strength: float | Tensor) -> dict[str, Any]:
    """A strength beside a condition; the latter may be None."""
    beside = {} if condition is None else {"condition": condition}
    return {"strength": torch.as_tensor(strength), **beside}


def strength_of(condition: Any) -> Tensor | None:
    """The strength that stands beside a condition; None if there is none."""
    condition = as_given(condition)
    if isinstance(condition, Mapping | TensorDictBase) and "strength" in condition.keys():
        return condition["strength"]
    return None


def without_strength(condition: Any) -> Any:
    """The condition beside which a strength stands; one without is returned as it is."""
    if strength_of(condition) is None:
        return condition
    return as_given(as_given(condition).get("condition", None))
