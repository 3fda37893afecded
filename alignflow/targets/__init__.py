"""Distributions with closed-form posteriors and tilts, and data sets."""

from .augmentation import AugmentedImages, deform
from .avatars import ATTRIBUTES, avatars, avatars_sample
from .boltzmann import Boltzmann, boltzmann
from .checkerboard import Checkerboard
from .digits import DIGIT_SPLITS, digits
from .empirical import Empirical
from .folder import eight_bit, image_folder
from .gaussian_mixture import GaussianMixture
from .gaussians import Gaussians
from .glyphs import CHARACTERS, glyphs
from .grid import GridDensity
from .images import Images, cache_folder
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
    from_relative,
    lennard_jones,
    mean_free,
    to_relative,
)
from .rewards import Linear, Quadratic

__all__ = [
    "ATTRIBUTES",
    "CHARACTERS",
    "CLUSTERS",
    "DIGIT_SPLITS",
    "AugmentedImages",
    "Boltzmann",
    "Checkerboard",
    "Cluster",
    "Empirical",
    "GaussianMixture",
    "Gaussians",
    "GridDensity",
    "Images",
    "Linear",
    "ModeJudge",
    "Quadratic",
    "avatars",
    "avatars_sample",
    "boltzmann",
    "build_cluster",
    "bump_reward",
    "cache_folder",
    "cycloid_reward",
    "cycloid_ring",
    "deform",
    "digits",
    "double_well",
    "eight_bit",
    "energy_reward",
    "from_relative",
    "glyphs",
    "image_folder",
    "inverse_problem",
    "inverse_problem_reward",
    "lennard_jones",
    "mean_free",
    "mixture",
    "mixture_linear_reward",
    "mixture_quadratic_reward",
    "ring",
    "ring_judge",
    "ring_reward",
    "to_relative",
]
