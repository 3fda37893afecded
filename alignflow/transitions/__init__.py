"""Transitions: one step of the sampler, from `time` to `target_time`."""

from .base import Transition
from .deterministic import Euler, FlowMapTransition, Heun, HeunCorrector, Straight
from .memoryless import memoryless_std, memoryless_step, step_coefficients
from .posterior import Bridge, GLASSTransition, Renoise, bridge
from .stochastic import SDE, Anchored

__all__ = [
    "SDE",
    "Anchored",
    "Bridge",
    "Euler",
    "FlowMapTransition",
    "GLASSTransition",
    "Heun",
    "HeunCorrector",
    "Renoise",
    "Straight",
    "Transition",
    "bridge",
    "memoryless_std",
    "memoryless_step",
    "step_coefficients",
]
