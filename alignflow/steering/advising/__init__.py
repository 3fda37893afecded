"""Which method reaches a tilt within a budget, and at what cost, by a pilot."""

from .advice import LEARNED, Advice, Row
from .entry import advise, check_advisable
from .formulas import Relaxation, best_of_n_distance, fit_relaxation, importance_distance

__all__ = [
    "LEARNED",
    "Advice",
    "Relaxation",
    "Row",
    "advise",
    "best_of_n_distance",
    "check_advisable",
    "fit_relaxation",
    "importance_distance",
]
