"""`steer`: a steerer by the name of its method, with every argument checked at the door."""

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from alignflow import checks
from alignflow.by_method import ByMethod
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.interpolants import check_grid, uniform_grid
from alignflow.reward_module import Reward, as_reward

from .methods import METHODS, Method, methods
from .options import Option, options
from .steerer import Steerer

__all__ = ["steer"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class _Steer(ByMethod[Arguments, Result, Method]):
    """The call `steer`, with `methods()` and `options(method)`."""

    def __init__(self, function: Callable[Arguments, Result]):
        super().__init__(function, methods)

    def options(self, method: Method) -> dict[str, Option]:
        """Options of a method, by name: `(type, default, meaning)`."""
        return options(method)


@_Steer
def steer(
    policy: FlowMap,
    reward: Reward | Callable[..., Any],
    method: Method = "lookahead",
    strength: float = 1.0,
    steps: int | None = None,
    particles: int | None = None,
    draws: int | None = None,
    *,
    grid: str | Tensor | Sequence[float] = "uniform",
    guidance: float = 1.0,
    micro_batch_size: int | None = None,
    **method_options: Any,
) -> Steerer:
    """A frozen model steered by a reward; `steer.methods()` has the names.

    Args:
        policy: The model.
        reward: A reward, or any callable as a black box.
        method: Name of the method.
        strength: lambda of the tilt exp(lambda r), per unit of reward. Methods that ascend climb
            lambda r and also take a step_size, which is not lambda.
        steps: Of the grid; 8 by default.
        particles: M of each system, for methods that keep several; the method's own by default.
        draws: Endpoints of each state, for posteriors that draw; the method's own by default.
        grid: "uniform", or increasing times from 0 to 1, (steps + 1,).
        guidance: Of classifier-free guidance; 1 is the conditional model itself.
        micro_batch_size: Rows that go through the model at a time; all by default.
        **method_options: Of the method, as `steer.options(method)` has them.

    Raises:
        ValueError: If a name is unknown, an option unknown or without effect, a number out of
            range, or the method needs the gradient of a black box.
    """
    check_flow_map("policy", policy)
    checks.choice("method", method, METHODS)
    reward = as_reward(reward)
    strength = checks.finite("strength", strength)
    if strength < 0:
        raise ValueError(
            f"strength must not be negative, got {strength}: rewards are maximized, so to seek low "
            "ones negate the reward"
        )
    chosen = method_options | _counts(method, particles=particles, draws=draws)
    _check_options(method, chosen)
    _check_gradient(policy, reward, method, chosen)
    return Steerer(
        policy,
        reward,
        lambda model, reward: METHODS[method](model, reward, strength, **chosen),
        _times(grid, steps),
        guidance=guidance,
        micro_batch_size=micro_batch_size,
        title=f"{method}: {methods()[method]}",
    )


def _counts(method: str, **counts: int | None) -> dict[str, int]:
    """Particles and draws as options; one of a thing that a method has one of is no option."""
    given = {name: count for name, count in counts.items() if count is not None}
    chosen = {name: checks.count(name, count) for name, count in given.items()}
    for name, count in chosen.items():
        if name not in options(method) and count > 1:
            able = [other for other in METHODS if name in options(other)]
            raise ValueError(
                f"{name}={count} would do nothing: method {method!r} has one of each; "
                f"methods that take {name}: {', '.join(able) or 'none'}"
            )
    return {name: count for name, count in chosen.items() if name in options(method)}


def _check_options(method: str, given: dict[str, Any]) -> None:
    known = options(method)
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(
            f"method {method!r} does not take {', '.join(unknown)}; it takes {', '.join(known)}"
            f"{checks.did_you_mean(unknown[0], known)}"
        )
    # a number that only some choices take is checked whether or not this one does
    for name in given:
        if known[name].type is int:
            checks.count(name, given[name])


def _check_gradient(policy: FlowMap, reward: Reward, method: str, given: dict[str, Any]) -> None:
    """Refuse a black box where its gradient is needed, with the methods that do without."""
    trial = Reward(reward, reward.name, differentiable=True)

    def climbs(name: str, options: dict[str, Any]) -> bool | None:
        try:
            return METHODS[name](policy, trial, strength=1.0, **options).climbs
        except ValueError:
            return None  # this model cannot run it at all

    if not reward.differentiable and climbs(method, given):
        free = ", ".join(name for name in METHODS if climbs(name, {}) is False)
        raise ValueError(
            f"method {method!r} needs the gradient of reward {reward.name!r}, a black box: "
            f"use one of {free}, or declare the gradient by @af.reward(differentiable=True)"
        )


def _times(grid: str | Tensor | Sequence[float], steps: int | None) -> Tensor:
    if isinstance(grid, str):
        if grid != "uniform":
            raise ValueError(f"grid must be 'uniform' or increasing times, got {grid!r}")
        return uniform_grid(checks.count("steps", 8 if steps is None else steps))
    try:
        times = torch.as_tensor(grid, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"grid must be 'uniform' or increasing times, got {checks.shown(grid)}"
        ) from error
    times = check_grid(times)
    if steps is not None and checks.count("steps", steps) != len(times) - 1:
        raise ValueError(
            f"a grid of {len(times)} times has {len(times) - 1} steps, got "
            f"grid={checks.shown(grid)} with steps={steps}"
        )
    return times
