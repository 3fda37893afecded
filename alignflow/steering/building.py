"""A steerer from a model, a tilt and a method as a value."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.interpolants import check_grid, uniform_grid
from alignflow.reward_module import Reward
from alignflow.tilt import Tilt

from .base_steerer import BaseSteerer
from .chains import ChainSteerer
from .defaults import default_steps
from .methods import METHODS, line
from .nodes import Nodes
from .recipes import ChainRecipe, Recipe
from .steerer import Steerer

__all__ = ["build_steerer", "method_name"]


def build_steerer(
    policy: FlowMap,
    tilt: Tilt,
    recipe: Recipe,
    steps: int | None = None,
    *,
    grid: str | Tensor | Sequence[float] = "uniform",
    guidance: float = 1.0,
    micro_batch_size: int | None = None,
    title: str | None = None,
) -> BaseSteerer:
    """The steerer of a method; arguments and errors are those of `steer`.

    Args:
        policy: The model.
        tilt: What the samples are steered to.
        recipe: The method.
        steps: Of the grid or of the chain; the method's or the model's default if None.
        grid: Of times.
        guidance: Of classifier-free guidance.
        micro_batch_size: Rows at a time.
        title: First line of the printed graph; that of the method if None.
    """
    _check_gradient(policy, tilt.reward, recipe)
    if steps is None and isinstance(grid, str):
        steps = recipe.default_steps or default_steps(policy)
    shared = {
        "guidance": guidance,
        "micro_batch_size": micro_batch_size,
        "title": f"{method_name(recipe)}: {line(type(recipe))}" if title is None else title,
    }
    if isinstance(recipe, ChainRecipe):
        _check_no_grid(grid, recipe)
        return ChainSteerer(policy, tilt, recipe.nodes, checks.count("steps", steps), **shared)
    build = cast(Callable[[FlowMap, Tilt], Nodes], recipe.nodes)
    return Steerer(policy, tilt, build, _times(grid, steps), **shared)


def method_name(recipe: Recipe) -> str:
    """By which `steer` takes a method, or that of its class."""
    return recipe.name or type(recipe).__name__


def _check_gradient(policy: FlowMap, reward: Reward, recipe: Recipe) -> None:
    """Refuse a black box where its gradient is needed, with the methods that do without."""
    if reward.differentiable:
        return
    trial = Tilt(Reward(reward, reward.name, differentiable=True))

    def needs_gradient(recipe: Recipe) -> bool | None:
        try:
            return recipe.nodes(policy, trial).needs_reward_gradient
        except ValueError:
            return None  # this model cannot run it at all

    if needs_gradient(recipe):
        free = ", ".join(name for name, kind in METHODS.items() if needs_gradient(kind()) is False)
        raise ValueError(
            f"method {method_name(recipe)!r} needs the gradient of reward {reward.name!r}, a black "
            f"box: use one of {free}, or declare the gradient by @af.reward(differentiable=True)"
        )


def _check_no_grid(grid: str | Tensor | Sequence[float], recipe: Recipe) -> None:
    if not isinstance(grid, str) or grid != "uniform":
        raise ValueError(
            f"grid={checks.shown(grid)} would do nothing: method {method_name(recipe)!r} is a "
            "chain, with steps of its own and no times between noise and data"
        )


def _times(grid: str | Tensor | Sequence[float], steps: int | None) -> Tensor:
    if isinstance(grid, str):
        if grid != "uniform":
            raise ValueError(f"grid must be 'uniform' or increasing times, got {grid!r}")
        return uniform_grid(checks.count("steps", steps))
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
