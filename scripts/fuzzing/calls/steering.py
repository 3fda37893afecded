"""`af.steer` by each method."""

from alignflow.settings import options
from alignflow.steering import METHODS

from .. import values as v
from ..values import Bad
from .call import Call, valid

__all__ = ["calls"]


SCHEME = v.choice("systematic", "ssp", "residual", "multinomial")
TRANSITION = v.among(
    v.choice("flow_map", "euler", "heun", "sde", "anchored"),
    v.each("None", "{'name': 'no_such'}", "{}", "{'name': 'sde', 'noise': -1.0}"),
    v.each("{'name': 'sde', 'noise': nan}", "{'name': 'sde', 'noize': 1.0}", "{'noise': 1.0}"),
    v.each("{'name': 'anchored', 'anchor': 0.0}", "{'name': 'anchored', 'anchor': 2.0}"),
)
POSTERIOR = v.among(
    v.choice("denoiser", "flow_map", "glass"), v.each("{'name': 'glass', 'solver': 'hewn'}")
)
LEARNED = v.each("3", "'gradient'", "nan", "network")
STEERED: dict[str, Bad] = {
    "step_size": v.nonnegative(),
    "scale": v.nonnegative(),
    "inner_steps": v.count(),
    "draws": v.count(optional=True),
    "particles": v.count(optional=True),
    "acceptance": v.fraction(zero=False, one=False, optional=True),
    "jumps": v.count(),
    "kernel": v.among(
        v.choice("pcn", "pcnl", "slice"),
        v.each("{'name': 'pcn', 'step_size': 0.0}", "{'name': 'slice', 'step_size': 0.1}"),
    ),
    "population": v.among(
        v.choice("exchange", "tempering"),
        v.each("{'name': 'tempering', 'threshold': 1.0}", "{'name': 'exchange', 'threshold': 0.5}"),
    ),
    "t_max": v.fraction(zero=False),
    "t_min": v.fraction(one=False),
    "solver": v.choice("heun", "euler"),
    "snr_ratio": v.among(v.positive(), v.each("0.5", "1.0")),
    "value": v.choice("gradient", "gradient_free"),
    "posterior": POSTERIOR,
    "target": v.each("3", "'abc'", "nan", "red"),
    "noise": v.nonnegative(),
    "scheme": SCHEME,
    "threshold": v.fraction(),
    "potential": v.choice("diff", "max", "add"),
    "scope": v.choice("system", "particle"),
    "iterations": v.count(),
    "clip": v.positive(),
    "regularization": v.nonnegative(),
    "transition": TRANSITION,
    "resampler": v.choice("single", "best_of_n", "importance"),
    "corrections": v.each("3", "['no_such']", "[{'name': 'ascent', 'step_size': nan}]", "[3]"),
}
# options that a method may do without, where others may not
FREE: dict[str, dict[str, Bad]] = {
    "fmrg_j": {"scale": v.nonnegative(optional=True)},
    "waltz": {"posterior": v.choice("glass", "stochastic_map", optional=True)},
    "custom": {"value": v.choice("gradient", "gradient_free", optional=True)},
    "value_guidance": {"value": LEARNED},
    "fk": {"value": LEARNED},
    "twisted_smc": {"value": LEARNED},
    "best_of_n": {"value": LEARNED},
}
# options without which a method does not run on the small policy
STEERED_GIVEN = {
    "exact": {"policy": "ring"},
    "mfm_g": {"policy": "stochastic"},
    "mfm_gf": {"policy": "stochastic"},
    "search": {"posterior": "'glass'"},
    "custom": {
        "posterior": "'glass'",
        "value": "'gradient_free'",
        "resampler": "'best_of_n'",
        "transition": "'euler'",
    },
    "fmrg_j": {"scale": "1.0"},
    "value_guidance": {"value": "value"},
    "reno": {"iterations": "2"},
}


def calls() -> list[Call]:
    """Of steering."""
    return [*_by_name(), *_methods(), *_samples()]


def _by_name() -> list[Call]:
    always = {
        "policy": v.policy(),
        "reward": v.reward(),
        "strength": v.nonnegative(),
        "steps": v.count(optional=True),
    }
    once = {
        "method": v.choice(*METHODS),
        "grid": v.grid(),
        "micro_batch_size": v.count(optional=True),
        "particles": v.among(v.count(optional=True), v.each("2")),
        "draws": v.among(v.count(optional=True), v.each("2")),
    }
    found = []
    for method, recipe in METHODS.items():
        of_method = list(options(recipe))
        given = {"policy": "policy", "reward": "red", "method": repr(method), "steps": "2"}
        given |= {name: "2" for name in ("particles", "draws") if name in of_method}
        given |= STEERED_GIVEN.get(method, {})
        bad = always | {name: STEERED[name] for name in of_method}
        bad |= FREE.get(method, {})
        if method == "lookahead":
            # a grid has its steps
            del given["steps"]
            bad |= once
        names = ("strength", *(name for name in of_method if len(name) > 3))
        found.append(
            Call(
                "af.steer",
                given,
                bad,
                then=".sample(2, generator=torch.Generator())",
                unknown=names,
            )
        )
    return found


def _methods() -> list[Call]:
    """Methods as values, `steering.FMTT(particles=2)`."""
    found = []
    for method, recipe in METHODS.items():
        given = {name: "2" for name in ("particles", "draws") if name in options(recipe)}
        given |= STEERED_GIVEN.get(method, {})
        policy = given.pop("policy", "policy")
        bad = {name: STEERED[name] for name in options(recipe)} | FREE.get(method, {})
        function = f"af.steer({policy}, red, steps=2, method=steering.{recipe.__name__}"
        unknown = tuple(name for name in bad if len(name) > 3)
        found.append(Call(function, given, bad, then=")", unknown=unknown))
    return found


def _samples() -> list[Call]:
    sampled = valid(
        "af.steer(policy, red, steps=2).sample",
        {"n": "4"},
        n=v.count(),
        generator=v.generator(),
        callback=v.each("3", "'abc'", "nan", "{}", "object()"),
        return_trajectory=v.flag(),
        condition=v.each("'abc'", "object()", "torch.arange(3)"),
        unknown=("condition", "generator", "return_trajectory"),
    )
    labelled = valid(
        "af.steer(labelled, red, steps=2).sample",
        {"n": "4", "condition": "torch.tensor([0, 1, 2, 0])"},
        condition=v.condition(),
    )
    guided = valid(
        "af.steer",
        {"policy": "labelled", "reward": "red", "steps": "2"},
        guidance=v.finite(),
        then=".sample(2, condition=1, generator=torch.Generator())",
    )
    return [sampled, labelled, guided]
