r"""Numbers with their standard errors.

.. math:: \mathrm{SE}^2 = \frac{G-1}{G} \sum_g (T_{-g} - \bar T)^2

The delete-a-group jackknife above serves every statistic that is not a plain mean.
"""

import math
import sys
from collections.abc import Callable
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from alignflow import checks

__all__ = ["Estimate", "Finite", "Interval", "check_samples", "jackknife", "mean"]

MOST = sys.float_info.max
Z = 1.96  # standard errors on either side of a 95% interval

Finite = Annotated[float, Meta(ge=-MOST, le=MOST, description="a finite number")]


class Interval(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A value with its 95% interval; on disk [value, low, high].

    Raises:
        ValueError: If the value lies outside, by more than rounding.
    """

    value: Finite
    low: Finite
    high: Finite

    def __post_init__(self):
        if self.value < self.low - 1e-9 or self.value > self.high + 1e-9:
            raise ValueError(f"{self.value} must lie in its interval [{self.low}, {self.high}]")

    @property
    def half_width(self) -> float:
        """The larger of the distances to the ends."""
        return max(self.value - self.low, self.high - self.value)


class Estimate(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A value and its standard error, both in the value's unit; on disk [value, standard error]."""

    value: Finite
    standard_error: Annotated[
        float, Meta(ge=0, le=MOST, description="a finite number of at least 0")
    ]

    @property
    def interval(self) -> Interval:
        """The 95% interval of a normal error."""
        half = Z * self.standard_error
        return Interval(self.value, self.value - half, self.value + half)

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.standard_error:.2g}"

    def __float__(self) -> float:
        return self.value


def mean(values: Tensor) -> Estimate:
    """The mean of independent values (N,); one value alone has a standard error of NaN."""
    if not isinstance(values, Tensor) or values.ndim != 1 or not len(values):
        raise ValueError(f"a mean needs values (N,), N >= 1, got {checks.shown(values)}")
    values = values.detach().double()
    if len(values) == 1:
        return Estimate(values.item(), math.nan)
    return Estimate(values.mean().item(), (values.std() / math.sqrt(len(values))).item())


def jackknife(statistic: Callable[..., float], *samples: Tensor, groups: int = 10) -> Estimate:
    """A statistic of independent samples, with its jackknife standard error.

    Args:
        statistic: From tensors (N, ...), (M, ...), ... to a number.
        *samples: Its arguments; group g of each is every row whose index is g modulo `groups`.
        groups: Left out one after the other; fewer where a sample has fewer rows.
    """
    groups = min(checks.count("groups", groups, least=2), *(len(sample) for sample in samples))
    value = statistic(*samples)
    if groups < 2:
        return Estimate(value, math.nan)

    def without(sample: Tensor, group: int) -> Tensor:
        return sample[torch.arange(len(sample), device=sample.device) % groups != group]

    left = torch.tensor(
        [statistic(*(without(sample, g) for sample in samples)) for g in range(groups)],
        dtype=torch.float64,
    )
    error = ((groups - 1) / groups * (left - left.mean()).square().sum()).sqrt()
    return Estimate(value, error.item())


def check_samples(*samples: Tensor) -> None:
    """Refuse what is no batch of samples (N, *E)."""
    for sample in samples:
        if not isinstance(sample, Tensor) or sample.ndim < 2:
            raise ValueError(f"samples must be tensors (N, *E), got {checks.shown(sample)}")
