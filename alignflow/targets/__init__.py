"""Distributions with closed-form posteriors and tilts."""

from .boltzmann import Boltzmann, boltzmann
from .checkerboard import Checkerboard
from .empirical import Empirical
from .gaussian_mixture import GaussianMixture
from .gaussians import Gaussians
from .grid import GridDensity
from .listed_strings import ListedStrings, TiltedStrings
from .modes import ModeJudge, ring_judge
from .named import (
    bump_reward,
    cycloid_reward,
    cycloid_ring,
    inverse_problem,
    inverse_problem_reward,
    mixture,
    mixture_linear_reward,
    mixture_quadratic_reward,
    ring,
    ring_reward,
)
from .particles import (
    CLUSTERS,
    Cluster,
    build_cluster,
    double_well,
    energy_reward,
    lennard_jones,
)
from .rewards import Linear, Quadratic
from .sequences import Sequences
from .string_judge import StringJudge

__all__ = [
    "CLUSTERS",
    "Boltzmann",
    "Checkerboard",
    "Cluster",
    "Empirical",
    "GaussianMixture",
    "Gaussians",
    "GridDensity",
    "Linear",
    "ListedStrings",
    "ModeJudge",
    "Quadratic",
    "Sequences",
    "TiltedStrings",
    "StringJudge",
    "boltzmann",
    "build_cluster",
    "bump_reward",
    "cycloid_reward",
    "cycloid_ring",
    "double_well",
    "energy_reward",
    "inverse_problem",
    "inverse_problem_reward",
    "lennard_jones",
    "mixture",
    "mixture_linear_reward",
    "mixture_quadratic_reward",
    "ring",
    "ring_judge",
    "ring_reward",
]
