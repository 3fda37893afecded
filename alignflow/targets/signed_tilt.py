"""Tilts of a closed form, whose strength may have either sign."""

from collections.abc import Callable
from typing import Any

from alignflow import checks
from alignflow.reward_module import Reward, as_reward
from alignflow.tilt import Tilt

__all__ = ["SignedTilt", "as_signed_tilt"]


class SignedTilt(Tilt):
    """A tilt whose strength may be negative, as the inverse of a tilt is."""

    def __init__(self, reward: Reward | Callable[..., Any], strength: float):
        object.__setattr__(self, "reward", as_reward(reward))
        object.__setattr__(self, "strength", checks.finite("strength", strength))


def as_signed_tilt(reward: Any, strength: float | None = None) -> Tilt:
    """The tilt that `tilted(tilt)` or `tilted(reward, strength)` asks for.

    Raises:
        TypeError: If the reward is none.
        ValueError: If a reward comes without a finite strength, or a tilt with one.
    """
    if not isinstance(reward, Tilt):
        return SignedTilt(reward, checks.finite("strength", strength))
    if strength is not None:
        raise ValueError(f"a tilt has a strength already, got strength={strength} beside it")
    return reward
