"""Steering: a frozen model sampled towards the tilt, by a graph of nodes run over a time grid."""

from .build import steer
from .methods import METHODS, methods
from .nodes import Nodes
from .steerer import Steerer

__all__ = ["METHODS", "Nodes", "Steerer", "methods", "steer"]
