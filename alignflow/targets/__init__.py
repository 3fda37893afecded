"""Distributions with closed-form posteriors and tilts, and data sets."""

from .checkerboard import Checkerboard
from .gaussian_mixture import GaussianMixture
from .gaussians import Gaussians
from .grid import GridDensity
from .named import inverse_problem, inverse_problem_reward, ring, ring_reward
from .rewards import Linear, Quadratic

__all__ = [
    "Checkerboard",
    "GaussianMixture",
    "Gaussians",
    "GridDensity",
    "Linear",
    "Quadratic",
    "inverse_problem",
    "inverse_problem_reward",
    "ring",
    "ring_reward",
]
