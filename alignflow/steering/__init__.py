"""Steering: a frozen model sampled towards the tilt, by a graph of nodes run over a time grid."""

from .build import steer
from .methods import METHODS, Method, methods
from .nodes import Nodes
from .options import Option, options
from .steerer import Steerer

__all__ = ["METHODS", "Method", "Nodes", "Option", "Steerer", "methods", "options", "steer"]
