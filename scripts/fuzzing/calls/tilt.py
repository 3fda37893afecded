"""The tilt, and how it is given to what samples it."""

from .. import values as v
from .call import Call, valid

__all__ = ["calls"]


def calls() -> list[Call]:
    """Of tilts."""
    quick = {"policy": "policy", "reward": "af.Tilt(red, 2.0)"}
    again = v.each("1.0", "2.0", "0", "2")
    return [
        valid(
            "af.Tilt",
            {"reward": "red"},
            reward=v.reward(),
            strength=v.nonnegative(),
            unknown=("reward", "strength"),
        ),
        valid("af.Tilt(red).with_reward", {"reward": "black"}, reward=v.reward()),
        valid("af.steer", quick, strength=again),
        valid("af.finetune", {**quick, "steps": "1", "batch_size": "4"}, strength=again),
    ]
