"""Valid calls of the public interface, small and fast, with the kind of each argument.

A call is an expression of the function, its valid arguments, and for those that are broken one at a
time the strategy that draws bad values for them. All are expressions over `things`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from alignflow.finetuning import METHODS as TUNERS
from alignflow.settings import options
from alignflow.steering import METHODS as STEERERS

from . import values as v
from .values import Bad

__all__ = ["Call", "calls"]


@dataclass(frozen=True)
class Call:
    """A valid call and how to break it.

    Args:
        function: What is called.
        given: Valid arguments by name.
        bad: Bad values by name of the argument.
        positional: Names of the first arguments, where they cannot be given by name.
        then: What is called on the result, where the arguments only then take effect.
        unknown: Names of arguments that it does have, of which typos are none.
    """

    function: str
    given: Mapping[str, str]
    bad: Mapping[str, Bad]
    positional: tuple[str, ...] = ()
    then: str = ""
    unknown: tuple[str, ...] = field(default=())

    def source(self, changed: Mapping[str, str] | None = None) -> str:
        """The call as Python, with some arguments changed or added."""
        arguments = {**self.given, **(changed or {})}
        first = [arguments.pop(name) for name in self.positional]
        rest = [f"{name}={value}" for name, value in arguments.items()]
        return f"{self.function}({', '.join([*first, *rest])}){self.then}"


def calls() -> list[Call]:
    """All of them."""
    return [
        *_policies(),
        *_uses_of_policies(),
        *_rewards(),
        *_training(),
        *_tuners(),
        *_parts_of_tuners(),
        *_steerers(),
        *_evaluation(),
        *_targets(),
        *_environments(),
    ]


def _call(function: str, given: dict[str, str] | None = None, /, **rest) -> Call:
    """A call whose bad arguments are given by name, `then`, `positional` and `unknown` apart."""
    own = {key: rest.pop(key) for key in ("then", "positional", "unknown") if key in rest}
    return Call(function, given or {}, rest, **own)


def _policies() -> list[Call]:
    wrapped = {"module": "policies.MLP(2, width=8)", "event_shape": "(2,)"}
    flat = {"function": "lambda x, t, condition=None: -x", "event_shape": "(2,)"}
    jump = {"function": "lambda x, s, t, condition=None: x", "event_shape": "(2,)"}
    return [
        _call(
            "af.FlowMapPolicy",
            wrapped,
            module=v.function(),
            event_shape=v.shape(),
            parametrization=v.choice("average_velocity", "mean_denoiser"),
            decode=v.choice("identity", "image", "particles"),
            invertible=v.flag(),
            stochastic=v.flag(),
            data_std=v.positive(),
            facts=v.each("3", "nan", "'abc'", "[1]", "object()", "{'a': object()}"),
            unknown=("parametrization", "invertible", "event_shape"),
        ),
        _call(
            "af.from_velocity",
            flat,
            function=v.function(),
            event_shape=v.shape(),
            tolerance=v.positive(optional=True),
            unknown=("tolerance",),
        ),
        _call(
            "af.from_velocity",
            flat,
            function=v.each(
                "lambda x, t, condition=None: x[:1]",
                "lambda x, t, condition=None: x.sum(1)",
                "lambda x, t, condition=None: None",
                "lambda x, t, condition=None: 'abc'",
                "lambda x, t, condition=None: x * nan",
            ),
            then=".sample(4, steps=2, generator=torch.Generator())",
        ),
        _call("af.from_flow_map", jump, function=v.function(), event_shape=v.shape()),
        _call(
            "af.from_flow_map",
            jump,
            function=v.each(
                "lambda x, s, t, condition=None: x[:2]",
                "lambda x, s, t, condition=None: x.sum(1)",
                "lambda x, s, t, condition=None: torch.cat([x, x])",
                "lambda x, s, t, condition=None: None",
                "lambda x, s, t, condition=None: x.tolist()",
            ),
            then=".sample(4, steps=2, generator=torch.Generator())",
        ),
        _call(
            "policies.MLP",
            {"dimension": "2", "width": "8"},
            dimension=v.count(),
            width=v.count(),
            depth=v.count(),
            classes=v.count(0),
            context=v.flag(),
            scale=v.positive(),
            unknown=("dimension", "width", "depth"),
        ),
        _call(
            "policies.EGNN",
            {"particles": "3", "width": "8"},
            particles=v.count(2),
            dimension=v.count(),
            width=v.count(),
            depth=v.count(),
            scale=v.positive(),
        ),
        _call(
            "policies.UNet",
            {"channels": "1", "widths": "(32,)", "attention": "(False,)"},
            channels=v.count(),
            widths=v.each("(0,)", "(2.5,)", "'abc'", "None", "3", "()", "(nan,)", "(-32,)"),
            blocks=v.count(),
            attention=v.each("(False, True)", "None", "3", "'no'", "()"),
            classes=v.count(0),
            context=v.flag(),
            patch=v.count(),
        ),
        _call(
            "policies.DiT",
            {"channels": "1", "size": "8", "width": "24", "depth": "1", "heads": "2"},
            channels=v.count(),
            size=v.among(v.count(), v.each("7")),
            patch=v.among(v.count(), v.each("3")),
            width=v.among(v.count(), v.each("25")),
            depth=v.count(),
            heads=v.among(v.count(), v.each("7")),
            classes=v.count(0),
            context=v.flag(),
        ),
        _call(
            "af.load",
            {"name": "'ring'"},
            name=v.among(
                v.words(["avatars", "ring", "digits", "glyphs"]).map(repr),
                v.each("None", "3", "nan", "''", "'nowhere/model'", "[]", "{}", "object()"),
                v.each("a_file", "precious", "b'ring'", "True", "torch.zeros(2)"),
            ),
            module=v.each("3", "'mlp'", "policies.MLP", "network", "{}", "policies.MLP(3)"),
            unknown=("module",),
        ),
        _call("policies.load_judge", {"name": "'digits'"}, name=v.choice("avatars", "digits")),
    ]


def _uses_of_policies() -> list[Call]:
    at = {"x": "x", "t": "0.5"}
    jump = {"x": "x", "s": "0.25", "t": "0.5"}
    sampled = {
        "n": v.count(),
        "steps": v.count(),
        "generator": v.generator(),
        "differentiable": v.flag(),
        "grid": v.grid(),
        "unknown": ("steps", "guidance", "generator", "condition"),
    }
    return [
        _call("policy.sample", {"n": "4", "steps": "1"}, **sampled),
        _call("ring.sample", {"n": "4"}, n=v.count(), generator=v.generator()),
        _call(
            "labelled.sample",
            {"n": "4", "steps": "1", "condition": "torch.tensor([0, 1, 2, 0])"},
            n=v.count(),
            condition=v.condition(),
            guidance=v.finite(),
        ),
        _call("policy.velocity", at, x=v.states(), t=v.time()),
        _call("policy.denoiser", at, x=v.states(), t=v.time()),
        _call(
            "policy.flow_map", jump, x=v.states(), s=v.time(), t=v.among(v.time(), v.each("0.1"))
        ),
        _call("labelled.velocity", {**at, "condition": "labels[:4]"}, condition=v.condition()),
        _call("ring.velocity", at, x=v.states(), t=v.time()),
        _call("images.decode", {"x": "torch.zeros(2, 1, 8, 8)"}, x=v.states("1, 8, 8")),
        _call(
            "policy.save",
            {"folder": "fresh"},
            folder=v.folder("precious", "None"),
            dtype=v.each("torch.int64", "torch.bool", "'float16'", "3", "float", "torch.cfloat"),
        ),
    ]


def _rewards() -> list[Call]:
    nodes = {"function": "black"}
    spaces = v.choice("decoded", "state")
    invalid = v.choice("raise", "drop", "worst")
    return [
        _call(
            "af.Reward",
            nodes,
            function=v.among(v.function(), v.each("torch.nn.Linear")),
            name=v.each("3", "nan", "object()"),
            differentiable=v.flag(),
            space=spaces,
            on_invalid=invalid,
            unknown=("differentiable", "on_invalid", "space"),
        ),
        _call(
            "af.reward",
            {"differentiable": "True"},
            differentiable=v.flag(),
            space=spaces,
            on_invalid=invalid,
            name=v.each("3", "nan", "object()"),
            then="(lambda endpoint: endpoint[:, 0])",
            unknown=("differentiable", "on_invalid", "space"),
        ),
        _call("af.as_reward", {"candidate": "black"}, candidate=v.reward()),
        _call(
            "af.Sum",
            {"terms": "{'red': (red, 1.0)}"},
            terms=v.each(
                "{}",
                "None",
                "3",
                "'abc'",
                "[red]",
                "{'red': red}",
                "{'red': (red,)}",
                "{'red': (red, nan)}",
                "{'red': (red, inf)}",
                "{'red': (red, 'abc')}",
                "{'red': (red, True)}",
                "{'red': (3, 1.0)}",
                "{'red': (af.Reward, 1.0)}",
                "{'red': (1.0, red)}",
                "{'red': (red, 1.0, 2.0)}",
                "{'red': (red, [1.0])}",
                "{'red': None}",
                "{3: (red, 1.0)}",
            ),
            name=v.each("3", "nan", "object()"),
        ),
        _call(
            "af.check_reward",
            {"candidate": "red", "policy": "policy"},
            candidate=v.reward(),
            policy=v.policy(),
            n=v.count(2),
            generator=v.generator(),
        ),
        _call(
            "af.check_reward",
            {"candidate": "red", "policy": "labelled", "condition": "labels[:4]"},
            condition=v.condition(),
        ),
        _call(
            "af.from_scores",
            {"function": "lambda images, prompts, metadata: [0.0] * len(images)"},
            function=v.function(),
            metadata=v.each("3", "'abc'", "[1]", "object()"),
            on_invalid=invalid,
        ),
        _call(
            "rewards.Color",
            {"rgb": "(1.0, 0.0, 0.0)"},
            rgb=v.each("None", "(1.0,)", "(nan, 0, 0)", "'red'", "3", "(0, 0, 0, 0)", "('a',) * 3"),
        ),
        _call(
            "rewards.Compressibility",
            format=v.choice("jpeg", "png"),
            quality=v.count(1, 95, optional=True),
        ),
        _call(
            "rewards.Attribute",
            {"name": "'glasses'"},
            name=v.choice("glasses"),
            classifier=v.each("'no_such'", "3", "None", "{}"),
        ),
        _call(
            "rewards.AttributeIndicator",
            {"name": "'glasses'"},
            name=v.choice("glasses"),
            threshold=v.fraction(),
        ),
        _call(
            "rewards.ClassMixture",
            {"weights": "[0.1] * 10"},
            weights=v.each(
                "None",
                "3",
                "'abc'",
                "[]",
                "[nan] * 10",
                "[-1.0] * 10",
                "[0.0] * 10",
                "[1.0]",
                "{'no such class': 1.0}",
                "[inf] * 10",
                "['a'] * 10",
            ),
        ),
        _call(
            "rewards.Similarity",
            {"image": "pictures[0]"},
            image=v.each(
                "None",
                "3",
                "'no_such.png'",
                "a_file",
                "torch.zeros(2)",
                "torch.full((1, 8, 8), nan)",
                "[]",
                "torch.zeros(1, 8, 8).bool()",
                "object()",
            ),
        ),
    ]


def _training() -> list[Call]:
    quick = {"steps": "1", "batch_size": "4"}
    trainer = {
        "learning_rate": v.positive(),
        "warmup": v.count(0),
        "decay": v.fraction(),
        "clip_norm": v.positive().filter(lambda text: text != "inf"),  # which clips nothing
        "ema_decay": v.fraction(),
        "precision": v.choice("fp32", "bf16"),
        "checkpoint_every": v.count(),
        "log_every": v.count(),
        "optimizer": v.each("3", "'adam'", "nan", "{}", "True", "torch.zeros(2)"),
        "evaluate": v.function(optional=True),
        "progress": v.each("3", "'abc'", "nan", "{}", "object()"),
    }
    data = v.among(
        v.states(rows=True).filter(lambda text: text not in ("torch.zeros(2)", "torch.zeros")),
        v.each("torch.zeros(4, 2).long()", "torch.zeros(16, 2, 2)", "labels", "np.zeros((4, 3))"),
        v.each("lambda n: None", "lambda n: torch.zeros(n, 3)", "lambda n: torch.zeros(1, 2)"),
        v.each("lambda: 0", "[torch.zeros(3)] * 4", "torch.utils.data.TensorDataset"),
    )
    losses = ("flow_matching", "psd", "psd_midpoint", "lsd", "esd", "meanflow")
    common = {
        "steps": v.count(),
        "batch_size": v.count(),
        "generator": v.generator(),
        "folder": v.folder(),
        "compile": v.flag(),
        "diagonal_fraction": v.fraction(),
        "times": v.instance(optional=True),
        "condition_dropout": v.fraction(),
    }
    return [
        _call(
            "af.pretrain",
            {"policy": "policy", "data": "data", **quick},
            policy=v.policy(network=True),
            data=data,
            loss=v.choice(*losses),
            teacher=v.instance("red", "network", optional=True),
            unknown=("steps", "batch_size", "learning_rate", "ema_decay", "clip_norm"),
            **common,
            **trainer,
        ),
        _call(
            "af.learn_posterior",
            {"policy": "policy", **quick},
            policy=v.policy(network=True),
            loss=v.choice("psd", "psd_midpoint", "lsd", "esd"),
            teacher=v.choice("glass", "data"),
            unknown=("steps", "teacher", "diagonal_fraction"),
            **common,
        ),
        _call(
            "UniformTimes",
            boundary=v.fraction(),
            both_directions=v.flag(),
        ),
        _call(
            "LogitNormalTimes",
            mean=v.finite(),
            std=v.nonnegative(),
        ),
        _call("PSD", split=v.choice("uniform", "midpoint"), stop_gradient=v.choice("convex")),
        _call("LossWeight", frequencies=v.count()),
    ]


# of each tuner: what makes it quick, and its own options
POOLED = {
    "pool": v.count(2),
    "refresh_every": v.count(),
    "candidate_steps": v.count(),
    "diagonal_fraction": v.fraction(),
    "rule": v.instance(optional=True),
}
SMALL_POOL = {"pool": "8", "candidate_steps": "1"}
OWN_OPTIONS: dict[str, tuple[dict[str, str], dict[str, Bad]]] = {
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
        {"rollout": v.instance("MapRollout(jumps=2)", optional=True)},
    ),
    "grpo": (
        {"environment": "functools.partial(envs.DenoisingEnv, steps=2)", "episodes": "8"},
        {
            "environment": v.each("3", "'abc'", "nan", "{}", "object()"),
            "episodes": v.count(),
            "refresh_every": v.count(),
            "clip": v.positive(),
        },
    ),
}


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
        "method": v.choice(*TUNERS),
        "levels": v.among(v.count(optional=True), v.each("5", "'many'")),
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
    for method in TUNERS:
        quick, own = OWN_OPTIONS[method]
        given = {"policy": "policy", "reward": "red", "method": repr(method), "strength": "1.0"}
        given |= {"steps": "1", "batch_size": "4", **quick}
        more = watched if method == "weighted" else {}
        names = ("strength", "batch_size", "learning_rate", *own)
        found.append(Call("af.finetune", given, {**common, **more, **own}, unknown=names))
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
    own_data = dict(found[1].given) | {"data": "data"}
    del own_data["candidate_steps"]
    bad = v.instance("torch.zeros(4, 3)", "torch.full((4, 2), nan)", optional=True)
    found.append(Call("af.finetune", own_data, {"data": bad}))
    labelled = dict(found[1].given) | {"policy": "labelled", "condition": "[0, 1]"}
    bad = v.each("[0, 3]", "3", "99", "-7", "'abc'", "nan", "1.5", "[]", "{}", "object()")
    found.append(Call("af.finetune", labelled, {"condition": bad}))
    return found


def _parts_of_tuners() -> list[Call]:
    return [
        _call("EqualLevels", number=v.count()),
        _call(
            "AdaptiveLevels",
            share=v.fraction(zero=False, one=False),
            most=v.count(),
            candidates=v.count(2),
            steps=v.count(),
        ),
        _call(
            "Langevin",
            {"law": "ring"},
            law=v.instance("red"),
            steps=v.count(),
            step_size=v.positive(),
        ),
        _call(
            "MapRollout",
            jumps=v.count(),
            truncation=v.count(1, 4, optional=True),
            start=v.choice("noise", "path"),
            recompute=v.flag(),
        ),
        _call(
            "MemorylessRollout",
            jumps=v.count(),
            truncation=v.count(1, 16, optional=True),
            start=v.choice("noise", "path"),
            recompute=v.flag(),
            data_deviation=v.nonnegative(),
        ),
        _call("ODERollout", jumps=v.count(), probes=v.count(0), recompute=v.flag()),
        _call("MMD", beta=v.positive()),
        _call("EndpointDistance", beta=v.positive()),
    ]


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
STEERED: dict[str, Bad] = {
    "step_size": v.nonnegative(),
    "scale": v.nonnegative(),
    "inner_steps": v.count(),
    "draws": v.count(optional=True),
    "particles": v.count(optional=True),
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
    "custom": {"value": v.choice("gradient", "gradient_free", optional=True)},
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
    "reno": {"iterations": "2"},
}


def _steerers() -> list[Call]:
    always = {
        "policy": v.policy(),
        "reward": v.reward(),
        "strength": v.nonnegative(),
        "steps": v.count(optional=True),
    }
    once = {
        "method": v.choice(*STEERERS),
        "grid": v.grid(),
        "micro_batch_size": v.count(optional=True),
        "particles": v.among(v.count(optional=True), v.each("2")),
        "draws": v.among(v.count(optional=True), v.each("2")),
    }
    found = []
    for method, row in STEERERS.items():
        own = list(options(row))
        given = {"policy": "policy", "reward": "red", "method": repr(method), "steps": "2"}
        given |= {name: "2" for name in ("particles", "draws") if name in own}
        given |= STEERED_GIVEN.get(method, {})
        bad = always | {name: STEERED[name] for name in own}
        bad |= FREE.get(method, {})
        if method == "lookahead":
            # a grid has steps of its own
            del given["steps"]
            bad |= once
        names = ("strength", *(name for name in own if len(name) > 3))
        found.append(
            Call(
                "af.steer",
                given,
                bad,
                then=".sample(2, generator=torch.Generator())",
                unknown=names,
            )
        )
    sampled = _call(
        "af.steer(policy, red, steps=2).sample",
        {"n": "4"},
        n=v.count(),
        generator=v.generator(),
        callback=v.each("3", "'abc'", "nan", "{}", "object()"),
        return_trajectory=v.flag(),
        condition=v.each("'abc'", "object()", "torch.arange(3)"),
        unknown=("condition", "generator", "return_trajectory"),
    )
    labelled = _call(
        "af.steer(labelled, red, steps=2).sample",
        {"n": "4", "condition": "torch.tensor([0, 1, 2, 0])"},
        condition=v.condition(),
    )
    guided = _call(
        "af.steer",
        {"policy": "labelled", "reward": "red", "steps": "2"},
        guidance=v.finite(),
        then=".sample(2, condition=1, generator=torch.Generator())",
    )
    return [*found, sampled, labelled, guided]


def _evaluation() -> list[Call]:
    given = {
        "samples": "data",
        "reward": "red",
        "reference": "data",
        "generator": "torch.Generator()",
    }
    return [
        _call(
            "af.evaluate",
            given,
            samples=v.among(
                v.states(rows=True).filter(lambda text: text != "torch.zeros(4, 3)"),
                v.each("torch.zeros(1, 2)", "policy"),
            ),
            reward=v.among(
                v.reward(optional=True).filter(lambda text: text != "[]"),
                v.each("{'a': 3}", "{'a': None}"),
            ),
            reference=v.instance(
                "torch.zeros(4, 3)", "torch.full((4, 2), nan)", "red", optional=True
            ),
            judges=v.mapping(
                "{'reward': black}",
                "{'diversity': black}",
                "{'j': lambda x: torch.full((len(x),), nan)}",
                "{'j': lambda x: x[:1, 0]}",
                "{'j': lambda x: 'abc'}",
                "{'j': lambda x: None}",
                "{'j': lambda x: torch.zeros(len(x), 2, 2)}",
                optional=True,
            ),
            decode=v.function(optional=True),
            features=v.function(optional=True),
            batch_size=v.count(),
            generator=v.generator(),
            unknown=("reference", "batch_size", "judges", "features"),
        ),
        _call(
            "af.evaluate",
            {
                "samples": "data",
                "reference": "labelled",
                "condition": "labels",
                "generator": "torch.Generator()",
            },
            condition=v.condition(rows=16),
        ),
    ]


def _targets() -> list[Call]:
    mixture = {
        "weights": "torch.ones(2)",
        "means": "torch.eye(2)",
        "covariances": "torch.eye(2).expand(2, 2, 2)",
    }
    at = {"x": "x", "t": "0.5"}
    pictures = "torch.zeros(4, 1, 8, 8, dtype=torch.uint8)"
    return [
        _call(
            "targets.GaussianMixture",
            mixture,
            weights=v.each(
                "None",
                "3",
                "'abc'",
                "torch.zeros(2)",
                "-torch.ones(2)",
                "torch.full((2,), nan)",
                "torch.ones(3)",
                "torch.ones(2, 2)",
                "[1.0, -1.0]",
                "{}",
                "torch.tensor([1.0, inf])",
            ),
            means=v.each(
                "None",
                "3",
                "'abc'",
                "torch.zeros(3, 2)",
                "torch.full((2, 2), nan)",
                "torch.eye(2).long()",
                "torch.zeros(2)",
                "{}",
                "torch.full((2, 2), inf)",
            ),
            covariances=v.each(
                "None",
                "3",
                "'abc'",
                "torch.zeros(2, 2, 2)",
                "-torch.eye(2).expand(2, 2, 2)",
                "torch.full((2, 2, 2), nan)",
                "torch.eye(2)",
                "torch.ones(2, 2, 2).triu()",
                "{}",
            ),
            tolerance=v.positive(optional=True),
        ),
        _call("ring.denoiser", at, x=v.states(), t=v.time()),
        _call(
            "ring.posterior_sample",
            {**at, "k": "2"},
            x=v.states(),
            t=v.time(),
            k=v.count(),
            generator=v.generator(),
        ),
        _call("ring.log_density", {"x": "x"}, x=v.states(), t=v.time()),
        _call(
            "ring.tilted",
            {"reward": "targets.ring_reward()", "strength": "1.0"},
            reward=v.reward(),
            strength=v.finite(),
        ),
        _call(
            "targets.Empirical",
            {"data": "data"},
            data=v.each(
                "None",
                "3",
                "'abc'",
                "torch.zeros(0, 2)",
                "torch.full((4, 2), nan)",
                "torch.zeros(())",
                "torch.zeros(4, 2).long()",
                "torch.zeros(4, 2).bool()",
                "{}",
                "torch.zeros(4, 2) * inf",
            ),
            log_weight=v.each(
                "3",
                "'abc'",
                "torch.zeros(3)",
                "torch.full((16,), nan)",
                "torch.full((16,), inf)",
                "torch.full((16,), -inf)",
                "torch.zeros(16, 1, 2)",
            ),
            chunk=v.count(),
        ),
        _call("targets.Checkerboard", squares=v.count(), extent=v.positive()),
        _call("targets.ring", modes=v.count(), radius=v.positive(), variance=v.positive()),
        _call(
            "targets.mixture",
            {"dimension": "2"},
            dimension=v.count(),
            components=v.count(),
            seed=v.count(0),
            separation=v.nonnegative(),
        ),
        _call(
            "targets.Linear",
            {"direction": "torch.ones(2)"},
            direction=v.each(
                "None",
                "3",
                "'abc'",
                "torch.full((2,), nan)",
                "torch.full((2,), inf)",
                "{}",
            ),
        ),
        _call(
            "targets.Quadratic",
            {"center": "torch.zeros(2)"},
            center=v.each("None", "'abc'", "torch.full((2,), nan)", "torch.full((2,), inf)", "{}"),
            precision=v.finite().filter(
                lambda text: text not in ("torch.zeros(2)", "np.array([1, 2])")
            ),
        ),
        _call("targets.build_cluster", {"name": "'dw4'"}, name=v.choice("dw4", "lj13")),
        _call("targets.lennard_jones", {"particles": "3"}, particles=v.count(2)),
        _call("targets.double_well", {"particles": "3"}, particles=v.count(2)),
        _call(
            "targets.bump_reward",
            center=v.each("None", "'abc'", "(nan, 0.0)", "(1.0,)", "3", "(inf, 0.0)"),
            deviation=v.positive(),
        ),
        _call("targets.inverse_problem_reward", observation=v.finite(), deviation=v.positive()),
        _call(
            "targets.cycloid_ring",
            {"components": "4"},
            components=v.count(),
            deviation=v.positive(),
        ),
        _call(
            "data.digits", split=v.choice("train", "judge_train", "judge_test"), augment=v.flag()
        ),
        _call(
            "data.image_folder",
            {"path": "album", "size": "8"},
            path=v.each("None", "3", "'nowhere'", "a_file", "precious", "{}"),
            size=v.count(),
            channels=v.count(1, 4).filter(lambda text: text != "2"),
        ),
        _call(
            "data.Images",
            {"pixels": pictures},
            pixels=v.each("None", "3", "'abc'", "torch.zeros(4, 1, 8, 8)", "torch.zeros(4).byte()"),
            labels=v.each("3", "'abc'", "{'a': torch.zeros(3).long()}", "{'a': 'abc'}", "[1]"),
            condition=v.each("'no_such'", "3", "[]"),
            then=".sample(2)",
        ),
        _call("data.glyphs", {"n": "2"}, n=v.count(), first=v.count(0)),
    ]


def _environments() -> list[Call]:
    given = {"policy": "policy", "reward": "red", "steps": "2"}
    process = {
        "policy": v.policy(),
        "reward": v.reward(),
        "steps": v.count(),
        "grid": v.grid().filter(lambda text: text != "'unifrom'"),
        "jitter": v.flag(),
    }
    transition = v.among(v.choice("sde", "anchored"), v.each("'euler'", "{'name': 'no_such'}"))
    return [
        _call(
            "envs.DenoisingEnv",
            given,
            positional=("policy",),  # torchrl keeps this name for itself
            num_envs=v.count(),
            kl_weight=v.nonnegative(),
            transition=transition,
            seed=v.count(0),
            condition=v.each("'abc'", "object()", "nan", "{}"),
            unknown=("num_envs", "kl_weight", "jitter"),
            **process,
        ),
        _call(
            "envs.DenoisingGym", given, render_mode=v.choice("rgb_array", optional=True), **process
        ),
        _call("envs.DenoisingVectorGym", {"num_envs": "2", **given}, num_envs=v.count(), **process),
        _call(
            "envs.denoising_actor",
            {"policy": "policy"},
            policy=v.policy(),
            transition=transition,
        ),
    ]
