"""Making policies and networks, and what is asked of a policy."""

from .. import values as v
from .call import Call, valid

__all__ = ["calls"]


def calls() -> list[Call]:
    """Of policies."""
    return [*_policies(), *_uses_of_policies()]


def _policies() -> list[Call]:
    wrapped = {"module": "policies.MLP(2, width=8)", "event_shape": "(2,)"}
    flat = {"function": "lambda x, t, condition=None: -x", "event_shape": "(2,)"}
    jump = {"function": "lambda x, s, t, condition=None: x", "event_shape": "(2,)"}
    return [
        valid(
            "af.FlowMapPolicy",
            wrapped,
            module=v.function(),
            event_shape=v.shape(),
            parametrization=v.choice("average_velocity", "mean_denoiser"),
            decode=v.among(
                v.choice("identity", "image", "particles"),
                v.each("network", "decoding.Identity", "decoding.Decoder", "lambda x: x"),
            ),
            invertible=v.flag(),
            stochastic=v.flag(),
            data_std=v.positive(),
            facts=v.each("3", "nan", "'abc'", "[1]", "object()", "{'a': object()}"),
            unknown=("parametrization", "invertible", "event_shape"),
        ),
        valid(
            "af.from_velocity",
            flat,
            function=v.function(),
            event_shape=v.shape(),
            tolerance=v.positive(optional=True),
            unknown=("tolerance",),
        ),
        valid(
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
        valid("af.from_flow_map", jump, function=v.function(), event_shape=v.shape()),
        valid(
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
        valid(
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
        valid(
            "policies.EGNN",
            {"particles": "3", "width": "8"},
            particles=v.count(2),
            dimension=v.count(),
            width=v.count(),
            depth=v.count(),
            scale=v.positive(),
        ),
        valid(
            "policies.ForceEGNN",
            {"cluster": "'dw4'", "width": "8"},
            temperature=v.positive(),
            width=v.count(),
            depth=v.count(),
            scale=v.positive(),
            stiffness=v.positive(),
        ),
        valid(
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
        valid(
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
        valid(
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
        valid(
            "decoding.register_decoder",
            {"name": "'doubled'"},
            name=v.each("3", "nan", "None", "[]", "True", "b'words'", "'image'", "decoding.Image"),
            then="(Doubled)",
            unknown=("name",),
        ),
        valid(
            "decoding.register_decoder('doubled')",
            {"decoder": "Doubled"},
            positional=("decoder",),
            decoder=v.each(
                "3", "None", "'image'", "decoding.Image()", "network", "torch.nn.Linear"
            ),
        ),
        valid("policies.load_judge", {"name": "'digits'"}, name=v.choice("avatars", "digits")),
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
        valid("policy.sample", {"n": "4", "steps": "1"}, **sampled),
        valid("ring.sample", {"n": "4"}, n=v.count(), generator=v.generator()),
        valid(
            "labelled.sample",
            {"n": "4", "steps": "1", "condition": "torch.tensor([0, 1, 2, 0])"},
            n=v.count(),
            condition=v.condition(),
            guidance=v.finite(),
        ),
        valid("policy.velocity", at, x=v.states(), t=v.time()),
        valid("policy.denoiser", at, x=v.states(), t=v.time()),
        valid(
            "policy.flow_map", jump, x=v.states(), s=v.time(), t=v.among(v.time(), v.each("0.1"))
        ),
        valid("labelled.velocity", {**at, "condition": "labels[:4]"}, condition=v.condition()),
        valid("ring.velocity", at, x=v.states(), t=v.time()),
        valid("images.decode", {"x": "torch.zeros(2, 1, 8, 8)"}, x=v.states("1, 8, 8")),
        valid(
            "policy.save",
            {"folder": "fresh"},
            folder=v.folder("precious", "None"),
            dtype=v.each("torch.int64", "torch.bool", "'float16'", "3", "float", "torch.cfloat"),
        ),
    ]
