"""The nodes by name: what a row of the table, or a config of one's own, chooses from.

A choice is a name, or a name with its numbers: `"glass"`, `{"name": "glass", "inner_steps": 16}`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from alignflow import checks
from alignflow.corrections import Ascent, Clipped, Drift, Normalized, Ramped, Tilt
from alignflow.flow_map import FlowMap
from alignflow.graph import Node
from alignflow.posteriors import (
    DenoiserPosterior,
    ExactPosterior,
    FlowMapPosterior,
    GaussianPosterior,
    GLASSPosterior,
    Posterior,
    RenoisedPosterior,
    StochasticMapPosterior,
)
from alignflow.resampling import (
    AdaptiveResampling,
    BestOfN,
    Importance,
    Potential,
    Resampler,
    Search,
    Single,
    Work,
)
from alignflow.reward_module import Reward
from alignflow.transitions import (
    SDE,
    Anchored,
    Bridge,
    Euler,
    FlowMapTransition,
    GLASSTransition,
    Heun,
    Renoise,
    Straight,
    Transition,
)
from alignflow.values import (
    EndpointAscent,
    Estimator,
    Gradient,
    GradientFree,
    RewardSoftmaxGradient,
    Value,
)

__all__ = [
    "POSTERIORS",
    "CORRECTIONS",
    "RESAMPLERS",
    "TRANSITIONS",
    "VALUES",
    "Choice",
    "build_correction",
    "build_posterior",
    "build_resampler",
    "build_transition",
    "build_value",
]

Choice = str | Mapping[str, Any]


def _exact(model: FlowMap, draws: int, target: Any = None) -> ExactPosterior:
    """Of the target, or of the model itself where it is one."""
    # a metered model stands in front of the target itself
    return ExactPosterior(
        model, getattr(model, "model", model) if target is None else target, draws
    )


POSTERIORS: dict[str, Callable[..., Posterior]] = {
    "denoiser": DenoiserPosterior,
    "flow_map": FlowMapPosterior,
    "gaussian": GaussianPosterior,
    "glass": GLASSPosterior,
    "stochastic_map": StochasticMapPosterior,
    "renoised": RenoisedPosterior,
    "exact": _exact,
}
VALUES: dict[str, Callable[..., Estimator]] = {
    "value": Value,
    "gradient": Gradient,
    "gradient_free": GradientFree,
    "reward_softmax": RewardSoftmaxGradient,
    "endpoint_ascent": EndpointAscent,
}
TRANSITIONS: dict[str, Callable[..., Transition]] = {
    "flow_map": FlowMapTransition,
    "straight": lambda model: Straight(),
    "euler": lambda model: Euler(),
    "heun": lambda model: Heun(),
    "sde": lambda model, noise="memoryless", data_std=0.0: SDE(noise, data_std),
    "anchored": Anchored,
    "glass": GLASSTransition,
    "bridge": lambda model: Bridge(StochasticMapPosterior(model)),
    "renoise": lambda model: Renoise(),
}
TRANSITIONS["ode"] = TRANSITIONS["euler"]
CORRECTIONS: dict[str, Callable[..., Node]] = {
    "tilt": Tilt,
    "ramped": Ramped,
    "ascent": Ascent,
    "drift": Drift,
    "normalized": Normalized,
    "clipped": Clipped,
}


def _adaptive(
    strength: float,
    particles: int,
    potential: str = "diff",
    ramped: bool = False,
    scheme: str = "systematic",
    threshold: float = 0.5,
) -> AdaptiveResampling:
    account = Work() if potential == "work" else Potential(potential, ramped)
    return AdaptiveResampling(strength, particles, account, scheme, threshold)


RESAMPLERS: dict[str, Callable[..., Resampler]] = {
    "single": lambda strength, particles: Single(),
    "best_of_n": lambda strength, particles: BestOfN(strength),
    "importance": lambda strength, particles: Importance(strength),
    "search": lambda strength, particles, scope="system": Search(particles, scope),
    "adaptive": _adaptive,
}


def build_posterior(choice: Choice, model: FlowMap, draws: int = 1, **numbers: Any) -> Posterior:
    """A posterior by name; one that is a point takes no draws but one."""
    make, options = _find("posterior", POSTERIORS, choice, numbers)
    if "draws" in inspect.signature(make).parameters:
        return make(model, draws=draws, **options)
    if draws > 1:
        raise ValueError(
            f"posterior {_name(choice)!r} is a point and gives one draw, got draws={draws}: "
            "'glass', 'gaussian', 'renoised' and 'stochastic_map' draw"
        )
    return make(model, **options)


def build_value(
    choice: Choice, model: FlowMap, reward: Reward, strength: float, **numbers: Any
) -> Estimator:
    """A value estimator by name."""
    make, options = _find("value", VALUES, choice, numbers)
    return make(model, reward, strength, **options)


def build_transition(choice: Choice, model: FlowMap, **numbers: Any) -> Transition:
    """A transition by name."""
    make, options = _find("transition", TRANSITIONS, choice, numbers)
    return make(model, **options)


def build_correction(choice: Choice) -> Node:
    """A correction by name."""
    make, options = _find("correction", CORRECTIONS, choice, {})
    return make(**options)


def build_resampler(choice: Choice, strength: float, particles: int) -> Resampler:
    """A resampler by name."""
    make, options = _find("resampler", RESAMPLERS, choice, {})
    return make(strength, particles, **options)


def _name(choice: Any) -> Any:
    return choice.get("name", "") if isinstance(choice, Mapping) else choice


def _find(
    kind: str, table: Mapping[str, Callable[..., Any]], choice: Choice, numbers: dict[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What makes the choice, and its numbers; a row's numbers count where the choice takes them."""
    if isinstance(choice, Mapping) and "name" not in choice:
        raise ValueError(
            f"{kind} must be a name, or a mapping of its name and numbers such as "
            f"{{'name': {next(iter(table))!r}}}, got {checks.shown(choice)}"
        )
    name = checks.choice(kind, _name(choice), table)
    taken = inspect.signature(table[name]).parameters
    own = {k: v for k, v in choice.items() if k != "name"} if isinstance(choice, Mapping) else {}
    given = {"model", "reward", "strength", "draws", "particles"}
    if unknown := sorted(set(own) - set(taken) | set(own) & given):
        free = ", ".join(key for key in taken if key not in given) or "no numbers"
        raise ValueError(f"{kind} {name!r} does not take {', '.join(unknown)}; it takes {free}")
    return table[name], {k: v for k, v in numbers.items() if k in taken} | own
