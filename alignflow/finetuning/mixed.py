r"""The mixed estimator: the reward's value and its gradient, in the fraction of least variance.

.. math:: T_\eta = (1 - \eta)\, T_{\rm value} + \eta\, T_{\rm gradient}, \qquad
    \eta^* = \frac{\mathbb{E}\,\langle T_{\rm value} - b_\theta,\, v \rangle}
    {\mathbb{E}\,\lvert v \rvert^2}, \quad v = T_{\rm value} - T_{\rm gradient}

Two targets of a regression with one mean may be mixed in any fraction: v has mean 0 at every state,
so that it is a control variate, and the fraction of least variance needs no derivative. It depends
on the time, since a posterior is narrow near the end and as wide as the data near the start.

Source: Reverse Flow Matching (2601.08136).
"""

from typing import Any

import torch
from torch import Tensor, nn

from alignflow import checks
from alignflow.interpolants import expand_time

__all__ = ["GradientFraction", "MixedEstimator", "as_mixed", "fraction_of"]

PARTS = 16  # equal parts of time, each with a fraction


class MixedEstimator:
    """Values and gradients of the reward, mixed.

    Args:
        fraction: Of the gradient, in [0, 1]; None is that of least variance in each part of time,
            estimated as it goes.
        memory: Decay of the running estimate a batch; 0.99 remembers about 100 batches.
    """

    def __init__(self, fraction: float | None = None, memory: float = 0.99):
        self.fraction = None if fraction is None else checks.fraction("fraction", fraction)
        self.memory = checks.fraction("memory", memory, one=False)


class GradientFraction(nn.Module):
    """The fraction of the gradient at each time, with its running estimate.

    Args:
        settings: What it is, or how it is estimated.
        device: Of the estimate.
    """

    moments: Tensor

    def __init__(self, settings: MixedEstimator, device: Any = None):
        super().__init__()
        self.settings = settings
        self.register_buffer("moments", torch.zeros(PARTS, 2, dtype=torch.float64, device=device))

    def forward(self, time: Tensor) -> Tensor:
        """The fraction, (N,), at times (N,)."""
        return self.values.to(time)[_part(time)]

    @property
    def values(self) -> Tensor:
        """The fraction in each part of time, (PARTS,)."""
        if self.settings.fraction is not None:
            return torch.full_like(self.moments[:, 0], self.settings.fraction)
        return (self.moments[:, 0] / self.moments[:, 1].clamp_min(1e-30)).clamp(0, 1)

    def mixed(self, time: Tensor, by_value: Tensor, by_gradient: Tensor, model: Tensor) -> Tensor:
        """The mixed target, (N, *E), in the fraction that earlier batches tell.

        Args:
            time: (N,).
            by_value: Target of values, (N, *E).
            by_gradient: Target of gradients, (N, *E).
            model: The model's velocity, which stands for the mean of both, (N, *E).
        """
        fraction = expand_time(self(time), by_value)
        variate = by_value - by_gradient
        self._update(_part(time), by_value - model, variate)
        return by_value - fraction * variate

    def _update(self, part: Tensor, values: Tensor, variate: Tensor) -> None:
        rows = torch.stack([values * variate, variate.square()], -1).flatten(1, -2).sum(1)
        found = torch.zeros_like(self.moments).index_add(0, part, rows.to(self.moments))
        self.moments.lerp_(found / len(rows), 1 - self.settings.memory)


def as_mixed(name: str, value: Any, others: tuple[str, ...]) -> str | MixedEstimator:
    """A mixed estimator as it is, or one of the others by its name."""
    return value if isinstance(value, MixedEstimator) else checks.choice(name, value, others)


def fraction_of(value: Any, device: Any) -> GradientFraction | None:
    """The fraction of a mixed estimator; None of another."""
    return GradientFraction(value, device) if isinstance(value, MixedEstimator) else None


def _part(time: Tensor) -> Tensor:
    return (time * PARTS).long().clamp(0, PARTS - 1)
