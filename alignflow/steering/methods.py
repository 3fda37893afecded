"""Every method by name: a row of the table posterior x value x transition x resampler."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

from alignflow import checks
from alignflow.corrections import Ascent, Drift, Normalized, Ramped, Tilt
from alignflow.graph import Node
from alignflow.resampling import (
    AdaptiveResampling,
    BestOfN,
    Importance,
    Potential,
    Search,
    Single,
    Work,
)

from .nodes import Nodes
from .noise_ascent import NoiseAscent
from .parts import (
    build_correction,
    build_posterior,
    build_resampler,
    build_transition,
    build_value,
)

__all__ = ["METHODS", "Method", "methods"]

# what METHODS holds, for type checkers and editors
Method = Literal[
    "lookahead",
    "lookahead_weighted",
    "lookahead_normalized",
    "fmrg_j",
    "fmrg_e",
    "dps",
    "lgd",
    "mfm_g",
    "mfm_gf",
    "glass",
    "weighted_diamond",
    "exact",
    "fmtt",
    "fk",
    "twisted_smc",
    "diamond_smc",
    "search",
    "reno",
    "best_of_n",
    "importance",
    "custom",
]


def lookahead(model, reward, strength, *, step_size=0.1, transition="flow_map") -> Nodes:
    """Jump, plus step_size grad(strength r(X_{t,1}(x))): climbs the reward, not the tilt."""
    return Nodes(
        posterior=build_posterior("flow_map", model),
        value=build_value("gradient", model, reward, strength),
        corrections=(Ascent(step_size),),
        transition=build_transition(transition, model),
        resampler=Single(),
    )


def lookahead_weighted(model, reward, strength, *, t_min=0.01, transition="flow_map") -> Nodes:
    """Jump, plus c_t grad(strength r(X_{t,1}(x))) from t_min on, c_t = (1-t)/t: biased."""
    return Nodes(
        posterior=build_posterior("flow_map", model),
        value=build_value("gradient", model, reward, strength),
        corrections=(Tilt(),),
        transition=build_transition(transition, model),
        resampler=Single(),
        t_min=_inside("t_min", t_min),
    )


def lookahead_normalized(model, reward, strength, *, scale=1.0, transition="flow_map") -> Nodes:
    """Jump, plus scale |b| along grad r(X_{t,1}(x)): climbs; any strength does the same."""
    return Nodes(
        posterior=build_posterior("flow_map", model),
        value=build_value("gradient", model, reward, strength),
        corrections=(Drift(1.0), Normalized(scale)),
        transition=build_transition(transition, model),
        resampler=Single(),
    )


def fmrg_j(
    model, reward, strength, *, step_size=1.0, scale=None, t_max=0.9, transition="flow_map"
) -> Nodes:
    """Jump along v + step_size grad(strength r(X_{t,1}(x))) (FMRG-J, 2604.27147): climbs."""
    normalized = () if scale is None else (Normalized(scale),)
    return Nodes(
        posterior=build_posterior("flow_map", model),
        value=build_value("gradient", model, reward, strength),
        corrections=(Drift(step_size), *normalized),
        transition=build_transition(transition, model),
        resampler=Single(),
        t_max=_inside("t_max", t_max),
    )


def fmrg_e(
    model,
    reward,
    strength,
    *,
    step_size=0.1,
    inner_steps=4,
    t_max=0.9,
    transition="flow_map",
) -> Nodes:
    """Jump, plus (1-t) t' of an ascent on the endpoint (FMRG-E, 2604.27147): climbs."""
    numbers = {"step_size": step_size, "inner_steps": inner_steps}
    return Nodes(
        posterior=build_posterior("flow_map", model),
        value=build_value("endpoint_ascent", model, reward, strength, **numbers),
        transition=build_transition(transition, model),
        resampler=Single(),
        t_max=_inside("t_max", t_max),
    )


def dps(model, reward, strength, *, t_min=0.01, transition="euler") -> Nodes:
    """Velocity plus c_t grad(strength r(D_t(x))) (DPS, 2209.14687): biased."""
    return Nodes(
        posterior=build_posterior("denoiser", model),
        value=build_value("gradient", model, reward, strength),
        corrections=(Tilt(),),
        transition=build_transition(transition, model),
        resampler=Single(),
        t_min=_inside("t_min", t_min),
    )


def lgd(model, reward, strength, *, draws=8, t_min=0.01, transition="euler") -> Nodes:
    """Velocity plus c_t grad of the value under a Gaussian posterior (LGD): biased."""
    return Nodes(
        posterior=build_posterior("gaussian", model, draws),
        value=build_value("gradient", model, reward, strength),
        corrections=(Tilt(),),
        transition=build_transition(transition, model),
        resampler=Single(),
        t_min=_inside("t_min", t_min),
    )


def mfm_g(
    model, reward, strength, *, posterior="stochastic_map", draws=8, t_min=0.01, transition="euler"
) -> Nodes:
    """Velocity plus c_t grad of the value, draws by a stochastic map (MFM-G, 2601.14430)."""
    return Nodes(
        posterior=build_posterior(posterior, model, draws),
        value=build_value("gradient", model, reward, strength),
        corrections=(Tilt(),),
        transition=build_transition(transition, model),
        resampler=Single(),
        t_min=_inside("t_min", t_min),
    )


def mfm_gf(
    model, reward, strength, *, posterior="stochastic_map", draws=16, transition="euler"
) -> Nodes:
    """Tilted velocity without gradients, draws by a stochastic map (MFM-GF, 2601.14430)."""
    return Nodes(
        posterior=build_posterior(posterior, model, draws),
        value=build_value("gradient_free", model, reward, strength),
        transition=build_transition(transition, model),
        resampler=Single(),
    )


def glass(
    model,
    reward,
    strength,
    *,
    draws=16,
    inner_steps=4,
    solver="heun",
    value="gradient_free",
    t_min=0.0,
    transition="euler",
) -> Nodes:
    """Tilted velocity from draws of any model's posterior (GLASS, 2509.25170): consistent."""
    numbers = {"inner_steps": inner_steps, "solver": solver}
    return Nodes(
        posterior=build_posterior("glass", model, draws, **numbers),
        value=build_value(value, model, reward, strength),
        corrections=_by_gradient(value),
        transition=build_transition(transition, model),
        resampler=Single(),
        t_min=t_min,
    )


def weighted_diamond(
    model,
    reward,
    strength,
    *,
    draws=16,
    snr_ratio=5.0,
    value="gradient_free",
    t_min=0.0,
    transition="euler",
) -> Nodes:
    """Tilted velocity from weighted renoised draws of any flow map (2602.05993): consistent."""
    return Nodes(
        posterior=build_posterior("renoised", model, draws, snr_ratio=snr_ratio),
        value=build_value(value, model, reward, strength),
        corrections=_by_gradient(value),
        transition=build_transition(transition, model),
        resampler=Single(),
        t_min=t_min,
    )


def exact(model, reward, strength, *, target=None, draws=64, transition="euler") -> Nodes:
    """Tilted velocity from a target's own draws, e.g. of stored data: consistent."""
    return Nodes(
        posterior=build_posterior("exact", model, draws, target=target),
        value=build_value("gradient_free", model, reward, strength),
        transition=build_transition(transition, model),
        resampler=Single(),
    )


def fmtt(
    model, reward, strength, *, particles=8, noise=0.5, scheme="systematic", threshold=0.5
) -> Nodes:
    """Particles driven up t r(X_{t,1}(x)), weighed by its work (FMTT, 2511.22688): consistent."""
    noise = checks.nonnegative("noise", noise)
    # drift e grad(t lambda r) beside the noise sqrt(2 e) dW, with e = noise^2 c_t
    scale = noise**2 / (1 + noise**2)
    return Nodes(
        posterior=build_posterior("flow_map", model),
        value=build_value("gradient", model, reward, strength),
        corrections=(Ramped(scale),),
        transition=build_transition("sde", model, noise=noise),
        resampler=AdaptiveResampling(strength, particles, Work(), scheme, threshold),
        particles=particles,
    )


def fk(
    model,
    reward,
    strength,
    *,
    particles=8,
    posterior="denoiser",
    potential="diff",
    scheme="systematic",
    threshold=0.5,
    transition="sde",
) -> Nodes:
    """Particles of the base weighed by their lookahead (FK steering, 2501.06848): consistent."""
    return Nodes(
        posterior=build_posterior(posterior, model),
        value=build_value("value", model, reward, strength),
        transition=build_transition(transition, model),
        resampler=AdaptiveResampling(strength, particles, Potential(potential), scheme, threshold),
        particles=particles,
    )


def twisted_smc(
    model,
    reward,
    strength,
    *,
    particles=8,
    posterior="denoiser",
    scale=1.0,
    scheme="ssp",
    threshold=0.5,
    transition="sde",
) -> Nodes:
    """Particles moved by a ramped gradient and weighed for it (DAS, 2501.05803): consistent."""
    return Nodes(
        posterior=build_posterior(posterior, model),
        value=build_value("gradient", model, reward, strength),
        corrections=(Ramped(scale),),
        transition=build_transition(transition, model),
        resampler=AdaptiveResampling(
            strength, particles, Potential("diff", ramped=True), scheme, threshold
        ),
        particles=particles,
    )


def diamond_smc(
    model,
    reward,
    strength,
    *,
    particles=8,
    draws=4,
    posterior="glass",
    inner_steps=4,
    solver="heun",
    scheme="systematic",
    threshold=0.5,
    transition="glass",
) -> Nodes:
    """Particles of the base weighed by their value (Diamond SMC, 2602.05993): consistent."""
    numbers = {"inner_steps": inner_steps, "solver": solver}  # of GLASS, where either is it
    return Nodes(
        posterior=build_posterior(posterior, model, draws, **numbers),
        value=build_value("value", model, reward, strength),
        transition=build_transition(transition, model, **numbers),
        resampler=AdaptiveResampling(strength, particles, Potential(), scheme, threshold),
        particles=particles,
    )


def search(
    model,
    reward,
    strength,
    *,
    particles=4,
    draws=4,
    posterior="stochastic_map",
    inner_steps=4,
    scope="system",
) -> Nodes:
    """The best of all draws, renoised, and so on (MFM-Search, 2601.14430): climbs."""
    return Nodes(
        posterior=build_posterior(posterior, model, draws, inner_steps=inner_steps),
        value=build_value("value", model, reward, strength),
        transition=build_transition("renoise", model),
        resampler=Search(particles, scope),
        particles=particles,
    )


def reno(
    model,
    reward,
    strength,
    *,
    iterations=50,
    step_size=5.0,
    clip=0.1,
    regularization=0.01,
    transition="flow_map",
) -> Nodes:
    """Ascent on the initial noise, the best of it kept (ReNO, 2406.04312): climbs."""
    return Nodes(
        posterior=build_posterior("flow_map", model),
        value=build_value("gradient", model, reward, strength),
        ascent=NoiseAscent(iterations, step_size, clip, regularization),
        transition=build_transition(transition, model),
        resampler=Single(),
    )


def best_of_n(model, reward, strength, *, particles=8, transition="flow_map") -> Nodes:
    """The best of N samples of the base; any reward."""
    return Nodes(
        transition=build_transition(transition, model),
        resampler=BestOfN(strength),
        particles=particles,
    )


def importance(model, reward, strength, *, particles=8, transition="flow_map") -> Nodes:
    """One of N samples of the base, drawn by its weight e^{strength r}: exact as N grows."""
    return Nodes(
        transition=build_transition(transition, model),
        resampler=Importance(strength),
        particles=particles,
    )


def custom(
    model,
    reward,
    strength,
    *,
    posterior=None,
    value=None,
    corrections=None,
    transition="flow_map",
    resampler="single",
    particles=1,
    draws=1,
    t_min=0.0,
    t_max=1.0,
) -> Nodes:
    """Nodes of your own choice, each a name or a name with its numbers."""
    chosen = None if value is None else build_value(value, model, reward, strength)
    if isinstance(corrections, str | Mapping):
        corrections = (corrections,)
    if corrections is not None:
        wanted = "a correction, or a sequence of them"
        checks.instance("corrections", corrections, Sequence, wanted)
    return Nodes(
        posterior=None if posterior is None else build_posterior(posterior, model, draws),
        value=chosen,
        corrections=tuple(map(build_correction, corrections or ())),
        transition=build_transition(transition, model),
        resampler=build_resampler(resampler, strength, particles),
        particles=particles,
        t_min=t_min,
        t_max=t_max,
    )


# a name is the function's; nothing is registered elsewhere
METHODS: dict[str, Callable[..., Nodes]] = {
    row.__name__: row
    for row in (
        lookahead,
        lookahead_weighted,
        lookahead_normalized,
        fmrg_j,
        fmrg_e,
        dps,
        lgd,
        mfm_g,
        mfm_gf,
        glass,
        weighted_diamond,
        exact,
        fmtt,
        fk,
        twisted_smc,
        diamond_smc,
        search,
        reno,
        best_of_n,
        importance,
        custom,
    )
}


def methods() -> dict[Method, str]:
    """Every method by name, with one line about it."""
    lines = {name: (inspect.getdoc(row) or "").partition("\n")[0] for name, row in METHODS.items()}
    return cast(dict[Method, str], lines)


def _by_gradient(value: Any) -> tuple[Node, ...]:
    """The tilt's coefficient, for a value that gives a gradient."""
    name = value if isinstance(value, str) else value["name"]
    return () if name == "gradient_free" else (Tilt(),)


def _inside(name: str, time: float) -> float:
    return checks.fraction(name, time, zero=False, one=False)
