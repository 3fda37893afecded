"""`steer`: a steerer from a model, a tilt and a method; all arguments are checked here."""

from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from alignflow import checks
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.interpolants import check_grid, uniform_grid
from alignflow.reward_module import Reward
from alignflow.settings import Option, from_options
from alignflow.tilt import DefaultStrength, Tilt, as_tilt

from .base_steerer import BaseSteerer
from .chains import ChainSteerer
from .defaults import default_steps
from .methods import METHODS, Method, line, methods, options
from .nodes import Nodes
from .recipes import ChainRecipe, Recipe
from .steerer import Steerer

__all__ = ["steer"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class _Steer(Generic[Arguments, Result]):
    """The call `steer`, with `methods()` and `options(method)`.

    Args:
        function: What a call does; its signature and docstring are those of the call.
    """

    def __init__(self, function: Callable[Arguments, Result]):
        update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return self._function(*args, **kwargs)

    def __reduce__(self) -> str:
        # by name, as a function is pickled
        return self._function.__qualname__

    def __repr__(self) -> str:
        return f"<function {self._function.__qualname__}>"

    def methods(self) -> dict[Method, str]:
        """Every method by name, with one line about it."""
        return methods()

    def options(self, method: Method | type[Recipe]) -> dict[str, Option]:
        """Options of a method, by name: `(type, default, meaning)`."""
        return options(method)


@_Steer
def steer(
    policy: FlowMap,
    reward: Tilt | Reward | Callable[..., Any],
    method: Method | Recipe = "lookahead",
    strength: float = DefaultStrength(1.0),
    steps: int | None = None,
    particles: int | None = None,
    draws: int | None = None,
    *,
    grid: str | Tensor | Sequence[float] = "uniform",
    guidance: float = 1.0,
    micro_batch_size: int | None = None,
    **method_options: Any,
) -> BaseSteerer:
    """A frozen model steered towards a tilt; `steer.methods()` has the names.

    `steer(policy, reward, "fmtt", strength=2, particles=16)` is short for
    `steer(policy, Tilt(reward, 2), steering.FMTT(particles=16))`.

    Args:
        policy: The model.
        reward: A tilt, a reward, or any callable as a black box.
        method: Name of a method, or the method itself with its options.
        strength: lambda of the tilt exp(lambda r), per unit of reward, of a reward without one.
            Methods that ascend follow the gradient of lambda r and also take a step_size.
        steps: Of the grid, 8 by default, or 4 by which particles of a learned map move; or of the
            chain.
        particles: M of each system, for methods that have several; the method's default otherwise.
        draws: Endpoints of each state, for posteriors that draw; the method's default otherwise.
        grid: "uniform", or increasing times from 0 to 1, (steps + 1,); a chain has none.
        guidance: Of classifier-free guidance; 1 is the conditional model itself.
        micro_batch_size: Rows that go through the model at a time; all by default.
        **method_options: Of a method by name, as `steer.options(method)` has them.

    Returns:
        A `Steerer` over a grid, or a `ChainSteerer`.

    Raises:
        ValueError: If a name is unknown, an option unknown or without effect, a number out of
            range, or the method needs the gradient of a black box.
    """
    check_flow_map("policy", policy)
    if not isinstance(method, Recipe):
        checks.choice("method", method, METHODS)
    tilt = as_tilt(reward, strength)
    recipe = _recipe(method, method_options, particles=particles, draws=draws)
    _check_gradient(policy, tilt.reward, recipe)
    if steps is None and isinstance(grid, str):
        steps = recipe.default_steps or default_steps(policy)
    shared = {
        "guidance": guidance,
        "micro_batch_size": micro_batch_size,
        "title": f"{_name(recipe)}: {line(type(recipe))}",
    }
    if isinstance(recipe, ChainRecipe):
        _check_no_grid(grid, recipe)
        return ChainSteerer(policy, tilt, recipe.nodes, checks.count("steps", steps), **shared)
    build = cast(Callable[[FlowMap, Tilt], Nodes], recipe.nodes)
    return Steerer(policy, tilt, build, _times(grid, steps), **shared)


def _recipe(method: str | Recipe, given: dict[str, Any], **counts: int | None) -> Recipe:
    """A method as it is, or made of its name and options."""
    if not isinstance(method, Recipe):
        given = given | _counts(method, **counts)
        return from_options(METHODS[method], given, f"method {method!r}")
    given = given | {name: count for name, count in counts.items() if count is not None}
    if given:
        kind = type(method).__name__
        raise ValueError(
            f"{', '.join(given)} beside a method that has its options: say it there, as "
            f"{kind}({', '.join(f'{name}={checks.shown(value)}' for name, value in given.items())})"
        )
    return method


def _counts(method: str, **counts: int | None) -> dict[str, int]:
    """Particles and draws as options; one of a thing that a method has one of is no option."""
    given = {name: count for name, count in counts.items() if count is not None}
    chosen = {name: checks.count(name, count) for name, count in given.items()}
    known = _options(method)
    for name, count in chosen.items():
        if name not in known and count > 1:
            able = [other for other in METHODS if name in _options(other)]
            raise ValueError(
                f"{name}={count} would do nothing: method {method!r} has one of each; "
                f"methods that take {name}: {', '.join(able) or 'none'}"
            )
    return {name: count for name, count in chosen.items() if name in known}


def _options(method: str) -> dict[str, Option]:
    return options(METHODS[method])


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
            f"method {_name(recipe)!r} needs the gradient of reward {reward.name!r}, a black box: "
            f"use one of {free}, or declare the gradient by @af.reward(differentiable=True)"
        )


def _name(recipe: Recipe) -> str:
    return recipe.name or type(recipe).__name__


def _check_no_grid(grid: str | Tensor | Sequence[float], recipe: Recipe) -> None:
    if not isinstance(grid, str) or grid != "uniform":
        raise ValueError(
            f"grid={checks.shown(grid)} would do nothing: method {_name(recipe)!r} is a chain, "
            "with steps of its own and no times between noise and data"
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
