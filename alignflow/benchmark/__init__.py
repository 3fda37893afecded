"""Every method against the closed form: distance over the sampling floor, and what it cost."""

from .measure import Truth, measure
from .results import FLOOR, Results, Row
from .run import run_suite
from .suite import Case, Suite, build_suite

__all__ = [
    "FLOOR",
    "Case",
    "Results",
    "Row",
    "Suite",
    "Truth",
    "build_suite",
    "measure",
    "run_suite",
]
