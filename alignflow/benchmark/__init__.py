"""Every method against the closed form: distance over the sampling floor, and what it cost."""

from .exact_logits import ExactLogits
from .fourier_network import FourierNetwork
from .measure import Truth, measure
from .random_mixtures import emptied_mixture, emptied_mixture_reward
from .results import FLOOR, Results, Row
from .running import run_suite
from .suite import Case, Suite, build_suite

__all__ = [
    "FLOOR",
    "Case",
    "ExactLogits",
    "FourierNetwork",
    "Results",
    "Row",
    "Suite",
    "Truth",
    "build_suite",
    "emptied_mixture",
    "emptied_mixture_reward",
    "measure",
    "run_suite",
]
