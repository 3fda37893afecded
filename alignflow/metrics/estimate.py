r"""Numbers with their standard errors.

.. math:: \mathrm{SE}^2 = \frac{G-1}{G} \sum_g (T_{-g} - \bar T)^2

The delete-a-group jackknife above serves every statistic that is not a plain mean.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from alignflow import checks

__all__ = ["Estimate", "check_samples", "jackknife", "mean"]


@dataclass(frozen=True)
class Estimate:
    """A value and how far chance may have moved it, both in the value's own unit."""

    value: float
    standard_error: float

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
