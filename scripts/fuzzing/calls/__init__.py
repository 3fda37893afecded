"""Valid calls of the public interface, small and fast, and how each argument is broken, by room.

A call is an expression of the function, its valid arguments, and for those that are broken one at a
time the strategy that draws bad values for them. All are expressions over `things`.
"""

from . import (
    data,
    environments,
    evaluation,
    policies,
    rewards,
    steering,
    targets,
    tilt,
    training,
    tuning,
)
from .call import Call

__all__ = ["Call", "calls"]

ROOMS = (
    policies,
    rewards,
    tilt,
    training,
    tuning,
    steering,
    evaluation,
    targets,
    data,
    environments,
)


def calls() -> list[Call]:
    """All of them."""
    return [call for room in ROOMS for call in room.calls()]
