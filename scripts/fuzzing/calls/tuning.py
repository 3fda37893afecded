"""`af.finetune` by each method, and the parts it is given."""

from alignflow.finetuning import METHODS

from .. import values as v
from ..values import Bad
from .call import Call, valid

__all__ = ["calls"]


# of each tuner: what makes it quick, and its options
POOLED = {
    "pool": v.count(2),
    "refresh_every": v.count(),
    "candidate_steps": v.count(),
    "diagonal_fraction": v.fraction(),
    "rule": v.instance(optional=True),
}
SMALL_POOL = {"pool": "8", "candidate_steps": "1"}
PATHS = {
    "pool": v.count(2),
    "refresh_every": v.count(),
    "paths": v.instance(),
    "trust_region": v.instance(optional=True),
}
OPTIONS: dict[str, tuple[dict[str, str], dict[str, Bad]]] = {
    "direct": (
        {"rollout": "MapRollout(jumps=2)", "regularizer": "EndpointDistance()"},
        {"rollout": v.instance(optional=True), "regularizer": v.instance(optional=True)},
    ),
    "weighted": (SMALL_POOL, POOLED),
    "etm": (SMALL_POOL, POOLED),
    "itm": (SMALL_POOL, POOLED),
    "tilt": (SMALL_POOL, {**POOLED, "memory": v.fraction()}),
    "mfm": (
        {**SMALL_POOL, "inner_steps": "1"},
        {
            **POOLED,
            "value": v.choice("gradient", "gradient_free"),
            "inner_steps": v.count(),
            "t_min": v.fraction(zero=False, one=False),
        },
    ),
    "adjoint_matching": (
        {"rollout": "MemorylessRollout(jumps=2)"},
        {
            "rollout": v.instance("MapRollout(jumps=2)", optional=True),
            "value": v.choice("gradient"),
        },
    ),
    "nft": (SMALL_POOL, {**POOLED, "beta": v.positive()}),
    "ram": (SMALL_POOL, POOLED),
    "awm": (SMALL_POOL, POOLED),
    "grpo": (
        {"environment": "functools.partial(envs.DenoisingEnv, steps=2)", "episodes": "8"},
        {
            "environment": v.each("3", "'abc'", "nan", "{}", "object()"),
            "episodes": v.count(),
            "refresh_every": v.count(),
            "clip": v.positive(),
            "credit": v.choice("path", "return"),
            "scale": v.choice("one", "std"),
        },
    ),
    "rloo": (
        {"draws": "2"},
        {"draws": v.count(2), "kl_weight": v.nonnegative(), "map_fraction": v.fraction()},
    ),
    "log_variance": (
        {"pool": "8", "paths": "MemorylessPaths(2)"},
        {
            **PATHS,
            "behavior": v.instance(optional=True),
            "recompute": v.flag(),
        },
    ),
    "proximal": (
        {"pool": "8", "paths": "MemorylessPaths(2)"},
        {**PATHS, "diagonal_fraction": v.fraction()},
    ),
}


def calls() -> list[Call]:
    """Of tuning."""
    return [*_tuners(), *_methods(), *_parts_of_tuners()]


def _tuners() -> list[Call]:
    common = {
        "policy": v.policy(network=True),
        "reward": v.reward(),
        "strength": v.nonnegative(),
        "steps": v.count(),
        "batch_size": v.count(),
        "generator": v.generator(),
        "times": v.instance(optional=True),
        "condition": v.each("'abc'", "nan", "{}", "object()", "1j", "[]"),
        "learning_rate": v.positive(),
    }
    watched = {
        "method": v.choice(*METHODS),
        "annealing_stages": v.among(v.count(optional=True), v.each("5", "'many'")),
        "recentering": v.count(0),
        "redistillation": v.count(0),
        "langevin": v.instance(optional=True),
        "folder": v.folder(),
        "compile": v.flag(),
        "clip_norm": v.positive().filter(lambda text: text != "inf"),
        "decay": v.fraction(),
        "warmup": v.count(0),
        "precision": v.choice("fp32", "bf16"),
        "checkpoint_every": v.count(),
        "log_every": v.count(),
        "ema_decay": v.fraction(),
        "evaluate": v.each("3", "'abc'", "nan", "{}"),
    }
    found = []
    for method in METHODS:
        quick, of_method = OPTIONS[method]
        policy, reward = _tuned(method)
        given = {"policy": policy, "reward": reward, "method": repr(method), "strength": "1.0"}
        given |= {"steps": "1", "batch_size": "4", **quick}
        more = watched if method == "weighted" else {}
        names = ("strength", "batch_size", "learning_rate", *of_method)
        found.append(Call("af.finetune", given, {**common, **more, **of_method}, unknown=names))
    logged = dict(found[1].given) | {"folder": "fresh", "held_out": "{'same': red}"}
    found.append(
        Call(
            "af.finetune",
            logged,
            {
                "held_out": v.mapping(optional=True),
                "early_stop": v.positive(optional=True),
                "target": v.instance("red", "policy", optional=True),
            },
        )
    )
    drawn = dict(found[1].given) | {"data": "points"}
    del drawn["candidate_steps"]
    bad = v.instance("torch.zeros(4, 3)", "torch.full((4, 2), nan)", optional=True)
    found.append(Call("af.finetune", drawn, {"data": bad}))
    labelled = dict(found[1].given) | {"policy": "labelled", "condition": "[0, 1]"}
    bad = v.each("[0, 3]", "3", "99", "-7", "'abc'", "nan", "1.5", "[]", "{}", "object()")
    found.append(Call("af.finetune", labelled, {"condition": bad}))
    return found


def _tuned(method: str) -> tuple[str, str]:
    """What a method tunes, to which reward."""
    return ("letters", "written") if METHODS[method].needs_logits else ("policy", "red")


def _methods() -> list[Call]:
    """Methods as values, `TiltMatching(pool=8)`."""
    found = []
    for method, kind in METHODS.items():
        given, bad = OPTIONS[method]
        tuned = ", ".join(_tuned(method))
        function = f"af.finetune({tuned}, steps=1, batch_size=4, method={kind.__name__}"
        found.append(Call(function, given, bad, then=")", unknown=tuple(bad)))
    return found


def _parts_of_tuners() -> list[Call]:
    return [
        valid("EqualStages", number=v.count()),
        valid(
            "AdaptiveStages",
            ess_fraction=v.fraction(zero=False, one=False),
            most=v.count(),
            candidates=v.count(2),
            steps=v.count(),
        ),
        valid(
            "Langevin",
            {"distribution": "ring"},
            distribution=v.instance("red"),
            steps=v.count(),
            step_size=v.positive(),
        ),
        valid(
            "MapRollout",
            jumps=v.count(),
            truncation=v.count(1, 4, optional=True),
            start=v.choice("noise", "path"),
            recompute=v.flag(),
        ),
        valid("MemorylessPaths", steps=v.count(), data_std=v.positive(optional=True)),
        valid("ESSRegion", ess_fraction=v.fraction(zero=False, one=False)),
        valid("KLRegion", radius=v.positive()),
        valid(
            "MemorylessRollout",
            jumps=v.count(),
            truncation=v.count(1, 16, optional=True),
            start=v.choice("noise", "path"),
            recompute=v.flag(),
            data_std=v.nonnegative(),
        ),
        valid("ODERollout", jumps=v.count(), probes=v.count(0), recompute=v.flag()),
        valid("MMD", beta=v.positive()),
        valid("EndpointDistance", beta=v.positive()),
    ]
