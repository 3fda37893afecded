"""Which method reaches a tilt within a budget, and at what cost, by a pilot."""

from .advice import LEARNED, Advice, Row, work
from .entry import advise
from .formulas import Relaxation, best_of_n_distance, fit_relaxation, importance_distance
from .study import Study

__all__ = [
    "LEARNED",
    "Advice",
    "Relaxation",
    "Row",
    "Study",
    "advise",
    "best_of_n_distance",
    "fit_relaxation",
    "importance_distance",
    "work",
]
