"""`af.evaluate`."""

from .. import values as v
from .call import Call, valid

__all__ = ["calls"]


def calls() -> list[Call]:
    """Of evaluation."""
    given = {
        "samples": "points",
        "reward": "red",
        "reference": "points",
        "generator": "torch.Generator()",
    }
    return [
        valid(
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
        valid(
            "af.evaluate",
            {
                "samples": "points",
                "reference": "labelled",
                "condition": "labels",
                "generator": "torch.Generator()",
            },
            condition=v.condition(rows=16),
        ),
    ]
