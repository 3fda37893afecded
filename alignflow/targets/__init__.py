"""Distributions with closed-form posteriors and tilts, and data sets."""

from .gaussian_mixture import GaussianMixture
from .gaussians import Gaussians
from .grid import GridDensity
from .rewards import Linear, Quadratic

__all__ = ["GaussianMixture", "Gaussians", "GridDensity", "Linear", "Quadratic"]
