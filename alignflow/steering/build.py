"""`steer`: a steerer by the name of its method, with every argument checked at the door."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from alignflow.flow_map import FlowMap
from alignflow.interpolants import check_grid, uniform_grid
from alignflow.reward_module import Reward, as_reward

from .methods import METHODS, methods
from .steerer import Steerer

__all__ = ["steer"]


def steer(
    policy: FlowMap,
    reward: Reward | Callable[..., Any],
    method: str = "lookahead",
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
        **method_options: Of the method: `transition` ("flow_map", "euler" or "heun") and its
            numbers.

    Raises:
        ValueError: If a name is unknown, an option unknown or without effect, a number out of
            range, or the method needs the gradient of a black box.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    reward = as_reward(reward)
    if not 0 <= strength < math.inf:
        raise ValueError(
            f"strength must be finite and not negative, got {strength}: rewards are maximized, so "
            "to seek low ones negate the reward"
        )
    options = method_options | _counts(method, particles=particles, draws=draws)
    _check_options(method, options)
    _check_gradient(policy, reward, method, options)
    if micro_batch_size is not None:
        _check_count("micro_batch_size", micro_batch_size)
    return Steerer(
        policy,
        reward,
        lambda model, reward: METHODS[method](model, reward, strength, **options),
        _times(grid, steps),
        guidance=guidance,
        micro_batch_size=micro_batch_size,
        title=f"{method}: {methods()[method]}",
    )


steer.methods = methods  # pyright: ignore[reportFunctionMemberAccess]


def _options(method: str) -> dict[str, Any]:
    """Options of a method, with their defaults."""
    parameters = inspect.signature(METHODS[method]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _counts(method: str, **counts: int | None) -> dict[str, int]:
    """Particles and draws as options; one of a thing that a method has one of is no option."""
    chosen = {name: count for name, count in counts.items() if count is not None}
    for name, count in chosen.items():
        _check_count(name, count)
        if name not in _options(method) and count > 1:
            able = [other for other in METHODS if name in _options(other)]
            raise ValueError(
                f"{name}={count} would do nothing: method {method!r} has one of each; "
                f"methods that take {name}: {', '.join(able) or 'none'}"
            )
    return {name: count for name, count in chosen.items() if name in _options(method)}


def _check_options(method: str, options: dict[str, Any]) -> None:
    if unknown := sorted(set(options) - set(_options(method))):
        raise ValueError(
            f"method {method!r} does not take {', '.join(unknown)}; "
            f"it takes {', '.join(_options(method))}"
        )


def _check_gradient(policy: FlowMap, reward: Reward, method: str, options: dict[str, Any]) -> None:
    """Refuse a black box where its gradient is needed, with the methods that do without."""
    trial = Reward(reward, reward.name, differentiable=True)

    def climbs(name: str, options: dict[str, Any]) -> bool | None:
        try:
            return METHODS[name](policy, trial, strength=1.0, **options).climbs
        except ValueError:
            return None  # this model cannot run it at all

    if not reward.differentiable and climbs(method, options):
        free = ", ".join(name for name in METHODS if climbs(name, {}) is False)
        raise ValueError(
            f"method {method!r} needs the gradient of reward {reward.name!r}, a black box: "
            f"use one of {free}, or declare the gradient by @af.reward(differentiable=True)"
        )


def _times(grid: str | Tensor | Sequence[float], steps: int | None) -> Tensor:
    if isinstance(grid, str):
        if grid != "uniform":
            raise ValueError(f"grid must be 'uniform' or increasing times, got {grid!r}")
        steps = 8 if steps is None else steps
        _check_count("steps", steps)
        return uniform_grid(steps)
    times = check_grid(torch.as_tensor(grid, dtype=torch.float64))
    if steps is not None and steps != len(times) - 1:
        raise ValueError(f"a grid of {len(times)} times has {len(times) - 1} steps, got {steps}")
    return times


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
