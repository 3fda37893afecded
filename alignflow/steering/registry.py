"""The nodes by name: what the options of a recipe, or a config, choose from.

A choice is a name, or a name with its numbers: `"glass"`, `{"name": "glass", "inner_steps": 16}`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from alignflow import checks
from alignflow.corrections import Ascent, Clipped, Drift, Normalized, Ramped, TiltCorrection
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
    Pruning,
    Resampler,
    Search,
    Single,
    Work,
)
from alignflow.tilt import Tilt
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
    Learned,
    LearnedGradient,
    LearnedTilt,
    RewardSoftmaxGradient,
    Value,
)

from .chains import (
    ChainNodes,
    Exchange,
    Population,
    Tempering,
    langevin_kernel,
    random_walk_kernel,
    slice_kernel,
)

__all__ = [
    "CORRECTIONS",
    "KERNELS",
    "POPULATIONS",
    "POSTERIORS",
    "RESAMPLERS",
    "TRANSITIONS",
    "VALUES",
    "Choice",
    "Maker",
    "build_correction",
    "build_kernel",
    "build_population",
    "build_posterior",
    "build_resampler",
    "build_transition",
    "build_value",
]

Choice = str | Mapping[str, Any]
Kind = TypeVar("Kind", bound=Node | ChainNodes)


class Maker(Generic[Kind]):
    """Makes a node from the arguments of its kind, and from numbers that a choice sets.

    Args:
        make: A class, or a function that makes a node.
        *takes: Names of the numbers that a choice may set. "draws" among them says that a posterior
            draws, and is no point.
    """

    def __init__(self, make: Callable[..., Kind], *takes: str):
        self.make, self.takes = make, takes


def _exact(model: FlowMap, draws: int, target: Any = None) -> ExactPosterior:
    """Of the target, or of the model itself where it is one."""
    # a metered model stands in front of the target itself
    return ExactPosterior(
        model, getattr(model, "model", model) if target is None else target, draws
    )


def _sde(model: FlowMap, noise: Any = "memoryless", data_std: Any = None) -> SDE:
    """With x_1 held at the denoiser, or a `data_std`: "policy" for the model's, or a number."""
    return SDE(noise, model.data_std if data_std == "policy" else data_std)


def _adaptive(
    tilt: Tilt,
    particles: int,
    potential: str = "diff",
    ramped: bool = False,
    scheme: str = "systematic",
    threshold: float = 0.5,
) -> AdaptiveResampling:
    account = Work() if potential == "work" else Potential(potential, ramped)
    return AdaptiveResampling(tilt, particles, account, scheme, threshold)


# of a model (and draws)
POSTERIORS: dict[str, Maker[Posterior]] = {
    "denoiser": Maker(DenoiserPosterior),
    "flow_map": Maker(FlowMapPosterior),
    "gaussian": Maker(GaussianPosterior, "draws"),
    "glass": Maker(GLASSPosterior, "draws", "inner_steps", "solver"),
    "stochastic_map": Maker(StochasticMapPosterior, "draws"),
    "renoised": Maker(RenoisedPosterior, "draws", "snr_ratio", "log_density"),
    "exact": Maker(_exact, "draws", "target"),
}
# of a model and a tilt
VALUES: dict[str, Maker[Estimator]] = {
    "value": Maker(Value),
    "gradient": Maker(Gradient),
    "gradient_free": Maker(GradientFree),
    "reward_softmax": Maker(RewardSoftmaxGradient),
    "endpoint_ascent": Maker(EndpointAscent, "step_size", "inner_steps"),
    "learned": Maker(Learned, "value"),
    "learned_gradient": Maker(LearnedGradient, "value"),
    "learned_tilt": Maker(LearnedTilt, "value", "scale"),
}
# of a model
TRANSITIONS: dict[str, Maker[Transition]] = {
    "flow_map": Maker(FlowMapTransition),
    "straight": Maker(lambda model: Straight()),
    "euler": Maker(lambda model: Euler()),
    "heun": Maker(lambda model: Heun()),
    "sde": Maker(_sde, "noise", "data_std"),
    "anchored": Maker(Anchored, "anchor"),
    "glass": Maker(GLASSTransition, "inner_steps", "solver"),
    "bridge": Maker(lambda model: Bridge(StochasticMapPosterior(model))),
    "renoise": Maker(lambda model: Renoise()),
}
TRANSITIONS["ode"] = TRANSITIONS["euler"]
CORRECTIONS: dict[str, Maker[Node]] = {
    "tilt": Maker(TiltCorrection),
    "ramped": Maker(Ramped, "scale"),
    "ascent": Maker(Ascent, "step_size"),
    "drift": Maker(Drift, "step_size"),
    "normalized": Maker(Normalized, "scale"),
    "clipped": Maker(Clipped, "scale"),
}
# of a tilt and a number of particles
RESAMPLERS: dict[str, Maker[Resampler]] = {
    "single": Maker(lambda tilt, particles: Single()),
    "best_of_n": Maker(lambda tilt, particles: BestOfN(tilt)),
    "pruning": Maker(Pruning),
    "importance": Maker(lambda tilt, particles: Importance(tilt)),
    "search": Maker(lambda tilt, particles, **numbers: Search(particles, **numbers), "scope"),
    "adaptive": Maker(_adaptive, "potential", "ramped", "scheme", "threshold"),
}

# of a model, a tilt and the jumps of the flow map
KERNELS: dict[str, Maker[ChainNodes]] = {
    "pcn": Maker(random_walk_kernel, "step_size", "acceptance"),
    "pcnl": Maker(langevin_kernel, "step_size", "acceptance"),
    "slice": Maker(slice_kernel, "tries"),
}
# of a tilt, a number of particles, and the keys that belong to a sample
POPULATIONS: dict[str, Maker[Population]] = {
    "exchange": Maker(Exchange),
    "tempering": Maker(
        lambda tilt, particles, keys, **numbers: Tempering(tilt, particles, **numbers),
        "threshold",
        "scheme",
    ),
}


def build_posterior(choice: Choice, model: FlowMap, draws: int = 1, **numbers: Any) -> Posterior:
    """A posterior by name; one that is a point takes no draws but one."""
    maker, options = _find("posterior", POSTERIORS, choice, numbers)
    if "draws" in maker.takes:
        return maker.make(model, draws=draws, **options)
    if draws > 1:
        raise ValueError(
            f"posterior {_name(choice)!r} is a point and gives one draw, got draws={draws}: "
            "'glass', 'gaussian', 'renoised' and 'stochastic_map' draw"
        )
    return maker.make(model, **options)


def build_value(choice: Choice, model: FlowMap, tilt: Tilt, **numbers: Any) -> Estimator:
    """A value estimator by name."""
    maker, options = _find("value", VALUES, choice, numbers)
    return maker.make(model, tilt, **options)


def build_transition(choice: Choice, model: FlowMap, **numbers: Any) -> Transition:
    """A transition by name."""
    maker, options = _find("transition", TRANSITIONS, choice, numbers)
    return maker.make(model, **options)


def build_correction(choice: Choice) -> Node:
    """A correction by name."""
    maker, options = _find("correction", CORRECTIONS, choice, {})
    return maker.make(**options)


def build_resampler(choice: Choice, tilt: Tilt, particles: int) -> Resampler:
    """A resampler by name."""
    maker, options = _find("resampler", RESAMPLERS, choice, {})
    return maker.make(tilt, particles, **options)


def build_kernel(choice: Choice, model: FlowMap, tilt: Tilt, jumps: int) -> ChainNodes:
    """A chain over the noise of a flow map, by the name of its kernel."""
    maker, options = _find("kernel", KERNELS, choice, {})
    return maker.make(model, tilt, jumps, **options)


def build_population(
    choice: Choice, tilt: Tilt, particles: int, keys: tuple[str, ...]
) -> Population:
    """How the particles of a chain's systems interact, by name."""
    maker, options = _find("population", POPULATIONS, choice, {})
    return maker.make(tilt, particles, keys, **options)


def _name(choice: Any) -> Any:
    return choice.get("name", "") if isinstance(choice, Mapping) else choice


def _find(
    kind: str, table: Mapping[str, Maker[Kind]], choice: Choice, numbers: dict[str, Any]
) -> tuple[Maker[Kind], dict[str, Any]]:
    """The maker of a choice, and its numbers: of those of a recipe, the ones that it takes."""
    if isinstance(choice, Mapping) and "name" not in choice:
        raise ValueError(
            f"{kind} must be a name, or a mapping of its name and numbers such as "
            f"{{'name': {next(iter(table))!r}}}, got {checks.shown(choice)}"
        )
    name = checks.choice(kind, _name(choice), table)
    maker = table[name]
    free = [key for key in maker.takes if key != "draws"]
    given = {k: v for k, v in choice.items() if k != "name"} if isinstance(choice, Mapping) else {}
    if unknown := sorted(set(given) - set(free)):
        offered = ", ".join(free) or "no numbers"
        raise ValueError(f"{kind} {name!r} does not take {', '.join(unknown)}; it takes {offered}")
    return maker, {k: v for k, v in numbers.items() if k in free} | given
