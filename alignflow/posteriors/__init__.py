"""Posteriors: draws from p(x1 | x_t), the lookahead of a steerer."""

from .base import DrawnPosterior, Posterior
from .exact import ExactPosterior
from .gaussian import GaussianPosterior
from .glass import GLASSPosterior, combined_look
from .inner_look import InnerLook
from .points import DenoiserPosterior, FlowMapPosterior
from .renoised import RenoisedPosterior
from .stochastic import StochasticMapPosterior
from .velocity import Velocity

__all__ = [
    "DenoiserPosterior",
    "DrawnPosterior",
    "ExactPosterior",
    "FlowMapPosterior",
    "GLASSPosterior",
    "GaussianPosterior",
    "InnerLook",
    "Posterior",
    "RenoisedPosterior",
    "StochasticMapPosterior",
    "Velocity",
    "combined_look",
]
