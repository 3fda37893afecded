"""Steering: a frozen model sampled towards the tilt, by a graph of nodes run over a time grid.

A method is a value, `FMTT(particles=16)`: a recipe of nodes, with its options as fields.
"""

from alignflow.settings import Option

from .advising import Advice, advise
from .base_steerer import BaseSteerer
from .chains import ChainNodes, ChainSteerer
from .entry import steer
from .methods import AUTO, METHODS, Method, keywords, methods, options
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
    ChainRecipe,
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
    SourceMCMC,
    TwistedSMC,
    ValueGuidance,
    Waltz,
    WeightedDiamond,
)
from .steerer import Steerer

__all__ = [
    "AUTO",
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
    "Advice",
    "BaseSteerer",
    "BestOfN",
    "ChainNodes",
    "ChainRecipe",
    "ChainSteerer",
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
    "SourceMCMC",
    "Steerer",
    "TwistedSMC",
    "ValueGuidance",
    "Waltz",
    "WeightedDiamond",
    "advise",
    "keywords",
    "methods",
    "options",
    "steer",
]
