"""Flow maps from callables: a velocity integrated by an ODE solver, or a map as it is."""

import inspect
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.interpolants import as_time
from alignflow.ode import integrate

__all__ = ["MapPolicy", "VelocityPolicy", "from_flow_map", "from_velocity"]


class VelocityPolicy(FlowMap):
    """A flow map that integrates a velocity: exact to the solver's tolerance, in both directions.

    Args:
        function: `function(x, t, condition=None)`, states (N, *E) and times (N,) to (N, *E). A
            module's parameters become the policy's.
        event_shape: Shape *E of one state.
        tolerance: Of the solver, as in `alignflow.ode.integrate`.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        event_shape: Sequence[int],
        tolerance: float | None = None,
    ):
        super().__init__(event_shape)
        self.function = _function(function)
        self.tolerance = None if tolerance is None else checks.positive("tolerance", tolerance)
        self._evaluations: dict[int, int] = {}

    def check_condition(self, condition) -> None:
        if condition is not None:
            _check_takes_condition(self.function, 2)

    @property
    def evaluations(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Evaluations of the velocity in the last jump of the thread that asks."""
        return self._evaluations.get(get_ident(), 1)

    def velocity(self, x: Tensor, t: float | Tensor, condition=None) -> Tensor:
        self.check_state(x)
        return _call(self.function, condition, x, as_time(t, x))

    def flow_map(self, x: Tensor, s: float | Tensor, t: float | Tensor, condition=None) -> Tensor:
        self.check_state(x)
        evaluations = 0

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            nonlocal evaluations
            evaluations += 1
            return _call(self.function, condition, x, t)

        end = integrate(velocity, x, s, t, self.tolerance)
        self._evaluations[get_ident()] = evaluations
        return end


class MapPolicy(FlowMap):
    """A flow map given as a callable; its velocity is the derivative of the jump at no length.

    Args:
        function: `function(x, s, t, condition=None)`, states (N, *E) and times (N,) to the states
            at t. It needs a forward-mode derivative in t wherever a velocity is asked for.
        event_shape: Shape *E of one state.
    """

    def __init__(self, function: Callable[..., Tensor], event_shape: Sequence[int]):
        super().__init__(event_shape)
        self.function = _function(function)

    @property
    def few_step(self) -> bool:
        return True

    def check_condition(self, condition) -> None:
        if condition is not None:
            _check_takes_condition(self.function, 3)

    def velocity(self, x: Tensor, t: float | Tensor, condition=None) -> Tensor:
        self.check_state(x)
        t = as_time(t, x)

        def end(t_end: Tensor) -> Tensor:
            return _call(self.function, condition, x, t, t_end)

        return torch.func.jvp(end, (t,), (torch.ones_like(t),))[1]

    def flow_map(self, x: Tensor, s: float | Tensor, t: float | Tensor, condition=None) -> Tensor:
        self.check_state(x)
        return _call(self.function, condition, x, as_time(s, x), as_time(t, x))


def from_velocity(
    function: Callable[..., Tensor], event_shape: Sequence[int], tolerance: float | None = None
) -> VelocityPolicy:
    """A policy from `function(x [N, *E], t [N], condition=None)` -> velocity [N, *E].

    Args:
        function: The velocity of a flow from noise at time 0 to data at time 1.
        event_shape: Shape *E of one state.
        tolerance: Of the ODE solver; by default 1e-9 in float64 and 1e-5 in float32.
    """
    return VelocityPolicy(function, event_shape, tolerance)


def from_flow_map(function: Callable[..., Tensor], event_shape: Sequence[int]) -> MapPolicy:
    """A policy from `function(x [N, *E], s [N], t [N], condition=None)` -> the state at t."""
    return MapPolicy(function, event_shape)


def _check_takes_condition(function: Callable[..., Tensor] | nn.Module, before: int) -> None:
    """Refuse a condition for a function that takes the arguments before it and no more."""
    called = function.forward if isinstance(function, nn.Module) else function
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):  # a builtin without one
        return
    try:
        signature.bind(*range(before + 1))
    except TypeError as error:
        raise ValueError(f"{_name(function)} takes no condition: {error}") from error


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _function(function: Any) -> Any:
    if not callable(function) or isinstance(function, type):
        raise ValueError(f"function must be a callable, got {checks.shown(function)}")
    return function


def _call(function: Callable[..., Tensor] | nn.Module, condition, *arguments: Tensor) -> Tensor:
    """What the function answers for states, the first of the arguments: as many, and as large."""
    out = function(*arguments) if condition is None else function(*arguments, condition)
    states = arguments[0]
    if not isinstance(out, Tensor) or out.shape != states.shape:
        raise ValueError(
            f"the function {_name(function)} must answer states of shape {tuple(states.shape)} "
            f"with a tensor of the same shape, got {checks.shown(out)}"
        )
    return out
