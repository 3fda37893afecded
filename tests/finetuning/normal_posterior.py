"""The posterior of normal data in closed form, as rows and weights of an exact quadrature."""

import numpy
import torch

NODES, WEIGHTS = (torch.tensor(each) for each in numpy.polynomial.hermite_e.hermegauss(40))
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def mean(values):
    """Of a quadrature's rows, (N, 1), exact for polynomials of degree 79."""
    return (WEIGHTS[:, None] * values).sum().item()


def path_variance(t, variance=1.0):
    return t**2 * variance + (1 - t) ** 2


def slope(t, variance=1.0):
    """Of the velocity of N(0, variance), which is linear in the state."""
    return (t * variance - (1 - t)) / path_variance(t, variance)


def posterior(x, t, variance=1.0, shift=0.0):
    """Mean and standard deviation of x_1 given x_t = x, for data N(shift, variance)."""
    v = path_variance(t, variance)
    return shift + t * variance * (x - t * shift) / v, (1 - t) * (variance / v) ** 0.5


def drawn(x, t, variance=1.0, shift=0.0):
    """Endpoints (N, 1) given x_t = x, at the nodes, and d = x_1 - x_0 with them."""
    center, std = posterior(x, t, variance, shift)
    x1 = (center + std * NODES)[:, None]
    return x1, (x1 - x) / (1 - t)


def covariance(x, t, variance=1.0):
    """Cov(-x_1^2, d | x_t = x), for data N(0, variance)."""
    return -2 * t * (1 - t) * variance**2 / path_variance(t, variance) ** 2 * x
