"""Every published steerer as a value: four choices (posterior, value, transition, resampler)."""

from .base import Recipe
from .chain import ChainRecipe, SourceMCMC, Waltz
from .custom import Custom
from .fmrg import FMRGE, FMRGJ
from .learned import ValueGuidance
from .lookahead import Lookahead, LookaheadNormalized, LookaheadWeighted
from .particles import FK, FMTT, DiamondSMC, TwistedSMC
from .selection import BestOfN, Importance, ReNO, Search
from .velocity import DPS, GLASS, LGD, MFMG, MFMGF, Exact, WeightedDiamond

__all__ = [
    "DPS",
    "FK",
    "FMRGE",
    "FMRGJ",
    "FMTT",
    "GLASS",
    "LGD",
    "MFMG",
    "MFMGF",
    "BestOfN",
    "ChainRecipe",
    "Custom",
    "DiamondSMC",
    "Exact",
    "Importance",
    "Lookahead",
    "LookaheadNormalized",
    "LookaheadWeighted",
    "ReNO",
    "Recipe",
    "Search",
    "SourceMCMC",
    "TwistedSMC",
    "ValueGuidance",
    "Waltz",
    "WeightedDiamond",
]
