r"""How far from the tilt a method ends, from the weights of a pilot or the path of its chains.

With w = e^{lambda r}, Z = E[w] over the base, and distances in total variation, of 0 to 1:

.. math::
    \frac{q_N}{\rho_1}(w) = E\Big[\frac{N w}{w + w_2 + \dots + w_N}\Big]
        = N w \int_0^\infty e^{-u w}\, E[e^{-u w}]^{N-1} du

q_N is the distribution of one of N samples that is drawn by its weight, and its density ratio is a
function of the reward alone, as is that of the best of N, N F(r)^{N-1}: with 1/a = int e^{-ua} du,
both distances are exact for the weights of the pilot. To leading order that of q_N falls like
E[w^2] / (E[w]^2 N): particles in proportion to the inverse of the ESS of a sample. q_N / rho* falls
with w, so that its distance is the largest error of P(r > c) over all c.

A chain that is reversible for the tilt nears it as a sum of exponentials of the steps. What is left
of the error of P(r > c) after k steps is fitted by the slowest of them,

.. math:: P^*(r > c) - P(r_k > c) \approx a\, \rho^k, \qquad
    k(\delta) = \frac{\log(a / \delta)}{-\log\rho}

Sources: importance resampling (Rubin 1987; Agapiou et al. 2017 for its bias by the ESS); best of N
(Beirami et al. 2401.01879); reversible chains (Levin and Peres 2017, chapter 12). The integral is
derived here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Relaxation",
    "best_of_n_distance",
    "fit_relaxation",
    "importance_distance",
    "total_variation",
    "within",
]

DECADES = (-8.0, 18.0)
"""Range of u, in powers of ten of 1 / (N max w) and 1 / max w."""
POINTS = 1024
"""Points of the integral over log u."""
FARTHEST = 2**20
"""Particles beyond which none are sought."""


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half of the summed difference of two distributions (M,) over the same points."""
    return 0.5 * (p - q).abs().sum().item()


def importance_distance(weight: Tensor, particles: int) -> float:
    """Distance to the tilt of one of N samples of the base, drawn by its weight.

    Args:
        weight: Of samples of the base, (M,), float64, not negative.
        particles: N.
    """
    scaled = weight / weight.max()
    low, high = DECADES[0] - math.log10(particles), DECADES[1]
    log_u = torch.linspace(low, high, POINTS, dtype=torch.float64) * math.log(10)
    u = log_u.exp()
    decay = torch.exp(-u.unsqueeze(1) * scaled)
    # to the power N - 1; the integral is over log u
    others = decay.mean(1) ** (particles - 1) * u
    ratio = scaled * (others @ decay)
    return total_variation(ratio / ratio.sum(), weight / weight.sum())


def best_of_n_distance(rewards: Tensor, weight: Tensor, particles: int) -> float:
    """Distance to the tilt of the best of N samples of the base; ties are drawn evenly.

    Args:
        rewards: Of samples of the base, (M,).
        weight: Of these, (M,).
        particles: N.
    """
    _, index, count = rewards.unique(return_inverse=True, return_counts=True)
    below = count.cumsum(0).double() / len(rewards)
    highest = below**particles
    best = highest - torch.cat([highest.new_zeros(1), highest[:-1]])
    return total_variation((best / count)[index], weight / weight.sum())


def within(distance: Callable[[int], float], tolerance: float) -> int | None:
    """The fewest particles with a distance that falls, to the tolerance; None if there are none."""
    high = 1
    while distance(high) > tolerance:
        high *= 2
        if high > FARTHEST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if distance(middle) <= tolerance else (middle, high)
    return high


@dataclass(frozen=True)
class Relaxation:
    """How a chain nears the tilt: `amplitude * rate ** k` is left after k steps.

    Args:
        amplitude: a, of 0 to 1.
        rate: rho, in [0, 1).
    """

    amplitude: float
    rate: float

    def distance(self, steps: int) -> float:
        """After so many steps."""
        return self.amplitude * self.rate**steps

    def burn_in(self, tolerance: float) -> int:
        """Steps until the tolerance, at least one."""
        if self.amplitude <= tolerance:
            return 1
        return max(1, math.ceil(math.log(self.amplitude / tolerance) / -math.log(self.rate)))


def fit_relaxation(gap: Tensor) -> Relaxation:
    """Least squares of `a rho^k`, a of 0 to 1, to what is left after k = 1, 2, ... steps.

    Args:
        gap: (K,), float64.
    """
    steps = torch.arange(1, len(gap) + 1, dtype=torch.float64)
    scale = torch.logspace(math.log10(0.2), math.log10(20 * len(gap)), 400, dtype=torch.float64)
    curves = torch.exp(-steps / scale.unsqueeze(1))
    amplitude = (curves @ gap / curves.square().sum(1)).clamp(0, 1)
    error = (amplitude.unsqueeze(1) * curves - gap).square().sum(1)
    best = int(error.argmin())
    return Relaxation(amplitude[best].item(), math.exp(-1 / scale[best].item()))
