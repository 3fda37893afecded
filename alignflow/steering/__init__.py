"""Steering: a frozen model sampled towards the tilt, by a graph of nodes run over a time grid.

A method is a value, `FMTT(particles=16)`: a recipe of nodes, with its options as fields.
"""

from alignflow.settings import Option

from .entry import steer
from .methods import METHODS, Method, keywords, methods, options
from .nodes import Nodes
from .recipes import (
    DPS,
    FK,
    FMRGE,
    FMRGJ,
    FMTT,
    GLASS,
    LGD,
    MFMG,
    MFMGF,
    BestOfN,
    Custom,
    DiamondSMC,
    Exact,
    Importance,
    Lookahead,
    LookaheadNormalized,
    LookaheadWeighted,
    Recipe,
    ReNO,
    Search,
    TwistedSMC,
    ValueGuidance,
    WeightedDiamond,
)
from .steerer import Steerer

__all__ = [
    "DPS",
    "FK",
    "FMRGE",
    "FMRGJ",
    "FMTT",
    "GLASS",
    "LGD",
    "METHODS",
    "MFMG",
    "MFMGF",
    "BestOfN",
    "Custom",
    "DiamondSMC",
    "Exact",
    "Importance",
    "Lookahead",
    "LookaheadNormalized",
    "LookaheadWeighted",
    "Method",
    "Nodes",
    "Option",
    "ReNO",
    "Recipe",
    "Search",
    "Steerer",
    "TwistedSMC",
    "ValueGuidance",
    "WeightedDiamond",
    "keywords",
    "methods",
    "options",
    "steer",
]
