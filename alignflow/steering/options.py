"""The options of the methods: of each its type, its default and what it means."""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

from alignflow import checks

from .methods import METHODS
from .parts import Choice

__all__ = ["Option", "options"]


class Option(NamedTuple):
    """One option of a method.

    Args:
        type: What it takes.
        default: What it is if it is not given.
        meaning: In words, with its unit.
    """

    type: Any
    default: Any
    meaning: str


# an option means the same wherever it is taken, but for what a method says of its own below
_MEANINGS: dict[str, tuple[Any, str]] = {
    "step_size": (float, "eta of the ascent, squared units of state per unit of lambda r"),
    "transition": (Choice, "how a step moves: flow_map, euler, heun, sde, anchored, ..."),
    "t_min": (float, "steps that start before this time are the base's own"),
    "t_max": (float, "steps that start at this time or later are the base's own"),
    "scale": (float, "kappa, what the correction is multiplied by, without unit"),
    "inner_steps": (int, "steps of the flow that makes one draw of the posterior"),
    "solver": (str, "of that flow: heun, two forwards a step but for the last, or euler"),
    "draws": (int, "K, endpoints of each state"),
    "posterior": (Choice, "what draws endpoints: glass, stochastic_map, denoiser, renoised, ..."),
    "value": (Choice, "how endpoints are made a guide: gradient_free, gradient, ..."),
    "snr_ratio": (float, "by how much the signal-to-noise ratio falls as states are renoised"),
    "target": (Any, "what has posterior_sample; the policy itself if None"),
    "particles": (int, "M, of each system"),
    "noise": (float, "eta, a share of the memoryless noise; 0 is the flow itself"),
    "scheme": (str, "of resampling: systematic, residual, ssp or multinomial"),
    "threshold": (float, "a system is resampled when its ESS is below this share of its particles"),
    "potential": (str, "what particles are weighed by on their way: diff, max or add"),
    "scope": (str, "whose draws are compared: of a system, or of each particle"),
    "iterations": (int, "steps of ascent on the noise"),
    "clip": (float, "longest gradient of a step of ascent"),
    "regularization": (float, "beta, what keeps the noise as long as noise is"),
    "corrections": (Sequence[Choice] | None, "of the velocity, in turn: tilt, ramped, drift, ..."),
    "resampler": (Choice, "single, best_of_n, importance, search or adaptive"),
}
_OWN: dict[tuple[str, str], tuple[Any, str]] = {
    ("lookahead_normalized", "scale"): (float, "length of the move, as a share of the velocity's"),
    ("fmrg_j", "scale"): (float | None, "length of the move, as a share of the velocity's; free"),
    ("fmrg_e", "inner_steps"): (int, "steps of ascent on one endpoint"),
    ("custom", "posterior"): (Choice | None, "what draws endpoints: glass, denoiser, ..."),
    ("custom", "value"): (Choice | None, "what endpoints are worth: value, gradient, ..."),
}


def options(method: str) -> dict[str, Option]:
    """Options of a method, by name: `(type, default, meaning)`.

    Those of every method (strength, steps, grid, guidance, micro_batch_size) are `steer`'s own.

    Raises:
        ValueError: If there is no such method.
    """
    row = METHODS[checks.choice("method", method, METHODS)]
    found = {}
    for parameter in inspect.signature(row).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            name = parameter.name
            kind, meaning = _OWN.get((method, name)) or _MEANINGS[name]
            found[name] = Option(kind, parameter.default, meaning)
    return found
