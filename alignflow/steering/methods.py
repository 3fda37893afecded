"""Every method by name: a row of the table posterior x value x transition x resampler."""

import inspect
from collections.abc import Callable

from alignflow.corrections import Ascent, Normalized, Tilt
from alignflow.flow_map import FlowMap
from alignflow.posteriors import DenoiserPosterior, FlowMapPosterior
from alignflow.resampling import BestOfN, Importance, Single
from alignflow.transitions import TRANSITIONS, Transition
from alignflow.values import PointGradient

from .nodes import Nodes

__all__ = ["METHODS", "methods"]


def lookahead(model, reward, strength, *, step_size=0.1, transition="flow_map") -> Nodes:
    """Jump, plus step_size grad(strength r(X_{t,1}(x))): climbs the reward, not the tilt."""
    return Nodes(
        posterior=FlowMapPosterior(model),
        value=PointGradient(model, reward, strength),
        correction=Ascent(step_size),
        transition=_transition(transition, model),
        resampler=Single(),
    )


def lookahead_weighted(model, reward, strength, *, t_min=0.01, transition="flow_map") -> Nodes:
    """Jump, plus c_t grad(strength r(X_{t,1}(x))) from t_min on, c_t = (1-t)/t: biased."""
    return Nodes(
        posterior=FlowMapPosterior(model),
        value=PointGradient(model, reward, strength),
        correction=Tilt(),
        transition=_transition(transition, model),
        resampler=Single(),
        t_min=_check_t_min(t_min),
    )


def lookahead_normalized(model, reward, strength, *, scale=1.0, transition="flow_map") -> Nodes:
    """Jump, plus scale |b| along grad r(X_{t,1}(x)): climbs; any strength does the same."""
    return Nodes(
        posterior=FlowMapPosterior(model),
        value=PointGradient(model, reward, strength),
        correction=Normalized(scale),
        transition=_transition(transition, model),
        resampler=Single(),
    )


def dps(model, reward, strength, *, t_min=0.01, transition="euler") -> Nodes:
    """Velocity plus c_t grad(strength r(D_t(x))) (DPS, 2209.14687): biased."""
    return Nodes(
        posterior=DenoiserPosterior(model),
        value=PointGradient(model, reward, strength),
        correction=Tilt(),
        transition=_transition(transition, model),
        resampler=Single(),
        t_min=_check_t_min(t_min),
    )


def best_of_n(model, reward, strength, *, particles=8, transition="flow_map") -> Nodes:
    """The best of N samples of the base; any reward."""
    return Nodes(
        transition=_transition(transition, model),
        resampler=BestOfN(strength),
        particles=particles,
    )


def importance(model, reward, strength, *, particles=8, transition="flow_map") -> Nodes:
    """One of N samples of the base, drawn by its weight e^{strength r}: exact as N grows."""
    return Nodes(
        transition=_transition(transition, model),
        resampler=Importance(strength),
        particles=particles,
    )


# a name is the function's; nothing is registered elsewhere
METHODS: dict[str, Callable[..., Nodes]] = {
    row.__name__: row
    for row in (
        lookahead,
        lookahead_weighted,
        lookahead_normalized,
        dps,
        best_of_n,
        importance,
    )
}


def methods() -> dict[str, str]:
    """Every method by name, with one line about it."""
    return {name: (inspect.getdoc(row) or "").partition("\n")[0] for name, row in METHODS.items()}


def _transition(name: str, model: FlowMap) -> Transition:
    if name not in TRANSITIONS:
        raise ValueError(f"transition must be one of {', '.join(TRANSITIONS)}, got {name!r}")
    return TRANSITIONS[name](model)


def _check_t_min(t_min: float) -> float:
    if not 0 < t_min < 1:
        raise ValueError(f"t_min must lie in (0, 1), where c_t = (1-t)/t is finite, got {t_min}")
    return t_min
