"""Particles: log-weights, effective sample size and resampling."""

from .adaptive import AdaptiveResampling
from .potentials import KINDS, Potential, Work
from .pruning import Pruning
from .resamplers import BestOfN, Importance, Resampler, Single
from .schemes import (
    SCHEMES,
    effective_sample_size,
    normalize_weights,
    resampled_rows,
    systematic,
)
from .search import Search

__all__ = [
    "KINDS",
    "SCHEMES",
    "AdaptiveResampling",
    "BestOfN",
    "Importance",
    "Potential",
    "Pruning",
    "Resampler",
    "Search",
    "Single",
    "Work",
    "effective_sample_size",
    "normalize_weights",
    "resampled_rows",
    "systematic",
]
