"""Markov chains over finished samples, whose invariant distribution is the tilt."""

from .acceptance import Acceptance, SourceAcceptance
from .adaptation import Adaptation
from .crank_nicolson import CrankNicolson, MoveRatio
from .exchange import Exchange
from .kernels import langevin_kernel, random_walk_kernel, slice_kernel
from .nodes import ChainNodes
from .noising import Noising
from .population import Population
from .slices import Ellipse, SliceAcceptance
from .start import FirstSample
from .steerer import ChainSteerer
from .tempering import Tempering

__all__ = [
    "Acceptance",
    "Adaptation",
    "ChainNodes",
    "ChainSteerer",
    "CrankNicolson",
    "Ellipse",
    "Exchange",
    "FirstSample",
    "MoveRatio",
    "Noising",
    "Population",
    "SliceAcceptance",
    "SourceAcceptance",
    "Tempering",
    "langevin_kernel",
    "random_walk_kernel",
    "slice_kernel",
]
