"""Particles: log-weights, effective sample size and resampling."""

from .adaptive import AdaptiveResampling
from .potentials import KINDS, Potential, Work
from .resamplers import BestOfN, Importance, Resampler, Single
from .schemes import (
    SCHEMES,
    effective_sample_size,
    multinomial,
    normalize_weights,
    residual,
    ssp,
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
    "Resampler",
    "Search",
    "Single",
    "Work",
    "effective_sample_size",
    "multinomial",
    "normalize_weights",
    "residual",
    "ssp",
    "systematic",
]
