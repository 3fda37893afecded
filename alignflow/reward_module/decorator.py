"""Functions as rewards: the decorator `reward`, and any callable as a black box."""

from collections.abc import Callable
from typing import Any, overload

from .interface import Reward, check_callable

__all__ = ["as_reward", "reward"]


@overload
def reward(function: Callable[..., Any]) -> Reward: ...
@overload
def reward(
    *, name: str | None = ..., differentiable: bool = ..., space: str = ..., on_invalid: str = ...
) -> Callable[[Callable[..., Any]], Reward]: ...
def reward(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    differentiable: bool = False,
    space: str = "decoded",
    on_invalid: str = "raise",
) -> Reward | Callable[[Callable[..., Any]], Reward]:
    """Decorate a function as a `Reward`, with or without arguments.

    ::

        @af.reward(differentiable=True)
        def redness(endpoint, condition=None):
            return endpoint[:, 0].mean(dim=(1, 2))
    """

    def decorate(function: Callable[..., Any]) -> Reward:
        return Reward(function, name, differentiable, space, on_invalid)

    return decorate if function is None else decorate(function)


def as_reward(candidate: Reward | Callable[..., Any]) -> Reward:
    """A reward as it is, or any callable as a black box.

    A module that says `differentiable` (perhaps `name`, `space`) of itself is believed.

    Raises:
        TypeError: If the candidate is not callable, or is a class that was not instantiated.
    """
    if isinstance(candidate, Reward):
        return candidate
    check_callable(candidate)
    return Reward(
        candidate,
        name=getattr(candidate, "name", None),
        differentiable=getattr(candidate, "differentiable", False),
        space=getattr(candidate, "space", "decoded"),
    )
