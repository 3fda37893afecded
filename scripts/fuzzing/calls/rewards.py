"""Rewards, composites and the shipped reward functions."""

from .. import values as v
from .call import Call, valid

__all__ = ["calls"]


def calls() -> list[Call]:
    """Of rewards."""
    nodes = {"function": "black"}
    spaces = v.choice("decoded", "state")
    invalid = v.choice("raise", "drop", "worst")
    return [
        valid(
            "af.Reward",
            nodes,
            function=v.among(v.function(), v.each("torch.nn.Linear")),
            name=v.each("3", "nan", "object()"),
            differentiable=v.flag(),
            space=spaces,
            on_invalid=invalid,
            unknown=("differentiable", "on_invalid", "space"),
        ),
        valid(
            "af.reward",
            {"differentiable": "True"},
            differentiable=v.flag(),
            space=spaces,
            on_invalid=invalid,
            name=v.each("3", "nan", "object()"),
            then="(lambda endpoint: endpoint[:, 0])",
            unknown=("differentiable", "on_invalid", "space"),
        ),
        valid("af.as_reward", {"candidate": "black"}, candidate=v.reward()),
        valid(
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
        valid(
            "af.check_reward",
            {"candidate": "red", "policy": "policy"},
            candidate=v.reward(),
            policy=v.policy(),
            n=v.count(2),
            generator=v.generator(),
        ),
        valid(
            "af.check_reward",
            {"candidate": "red", "policy": "labelled", "condition": "labels[:4]"},
            condition=v.condition(),
        ),
        valid(
            "af.from_scores",
            {"function": "lambda images, prompts, metadata: [0.0] * len(images)"},
            function=v.function(),
            metadata=v.each("3", "'abc'", "[1]", "object()"),
            on_invalid=invalid,
        ),
        valid(
            "rewards.Color",
            {"rgb": "(1.0, 0.0, 0.0)"},
            rgb=v.each("None", "(1.0,)", "(nan, 0, 0)", "'red'", "3", "(0, 0, 0, 0)", "('a',) * 3"),
        ),
        valid(
            "rewards.Compressibility",
            format=v.choice("jpeg", "png"),
            quality=v.count(1, 95, optional=True),
        ),
        valid(
            "rewards.Attribute",
            {"name": "'glasses'"},
            name=v.choice("glasses"),
            classifier=v.each("'no_such'", "3", "None", "{}"),
        ),
        valid(
            "rewards.AttributeIndicator",
            {"name": "'glasses'"},
            name=v.choice("glasses"),
            threshold=v.fraction(),
        ),
        valid(
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
        valid(
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
