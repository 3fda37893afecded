"""Targets with a name: small distributions and rewards on which methods are compared."""

import math

import torch

from .gaussian_mixture import GaussianMixture
from .rewards import Quadratic

__all__ = ["inverse_problem", "inverse_problem_reward", "ring", "ring_reward"]


def ring(modes: int = 8, radius: float = 4.0, variance: float = 0.1) -> GaussianMixture:
    """Equal round Gaussians evenly on a circle in the plane."""
    if modes < 1:
        raise ValueError(f"a ring needs at least one mode, got {modes}")
    angles = torch.arange(modes) * (2 * math.pi / modes)
    means = radius * torch.stack([angles.cos(), angles.sin()], dim=1)
    covariances = variance * torch.eye(2).expand(modes, 2, 2)
    return GaussianMixture(torch.ones(modes), means, covariances)


def ring_reward() -> Quadratic:
    """-0.15 |x - (3, 2)|^2: it prefers one side of the ring, and points between two modes."""
    return Quadratic(torch.tensor([3.0, 2.0]), 0.3, name="ring")


def inverse_problem() -> GaussianMixture:
    """The prior of a linear inverse problem: three Gaussians in a row in the plane.

    Source: Meta Flow Maps (2601.14430), section 7.1.1.
    """
    means = torch.tensor([[-3.0, -3.0], [0.0, 0.0], [3.0, 3.0]])
    return GaussianMixture(torch.ones(3), means, 0.5 * torch.eye(2).expand(3, 2, 2))


def inverse_problem_reward(observation: float = -1.0, deviation: float = 0.2) -> Quadratic:
    """The log-likelihood of an observed a^T x + noise: at strength 1 the tilt is the posterior.

    Args:
        observation: What was measured, with a = (1.2, -0.8).
        deviation: Standard deviation of the measurement's noise.

    Source: Meta Flow Maps (2601.14430), section 7.1.1; the normalizer is left out.
    """
    direction = torch.tensor([1.2, -0.8])
    center = observation * direction / direction.dot(direction)
    precision = torch.outer(direction, direction) / deviation**2
    return Quadratic(center, precision, name="log_likelihood")
