"""Which method reaches a tilt within a budget, and at what cost, by a pilot."""

from .advice import Advice, Row
from .entry import advise
from .formulas import Relaxation, best_of_n_distance, fit_relaxation, importance_distance
from .pilot import Pilot, run_pilot

__all__ = [
    "Advice",
    "Pilot",
    "Relaxation",
    "Row",
    "advise",
    "best_of_n_distance",
    "fit_relaxation",
    "importance_distance",
    "run_pilot",
]
