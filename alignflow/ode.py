r"""Jumps along a velocity field by an adaptive ODE solver: the slow truth of every flow map.

.. math:: X_{s,t}(x) = x + \int_s^t b_u(X_{s,u}(x)) \, du
"""

from collections.abc import Callable
from typing import Any, cast, overload

import torch
from torch import Tensor

from alignflow import checks
from alignflow.interpolants import as_time, expand_time

__all__ = ["integrate"]

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
# ten times what smooth flows take; where a gradient is wanted, each step keeps its activations
MOST_STEPS = {torch.float64: 1000, torch.float32: 250}

States = tuple[Tensor, ...]


@overload
def integrate(
    velocity: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    s: float | Tensor,
    t: float | Tensor,
    tolerance: float | None = None,
    steps: int | None = None,
) -> Tensor: ...
@overload
def integrate(
    velocity: Callable[[States, Tensor], States],
    x: States,
    s: float | Tensor,
    t: float | Tensor,
    tolerance: float | None = None,
    steps: int | None = None,
) -> States: ...
def integrate(
    velocity: Callable[[Any, Tensor], Any],
    x: Tensor | States,
    s: float | Tensor,
    t: float | Tensor,
    tolerance: float | None = None,
    steps: int | None = None,
) -> Tensor | States:
    """The state at time t of the ODE that passes x at time s, by Dormand-Prince 4(5).

    Every sample has two times, in either order: each moves along its segment by one shared clock in
    [0, 1]. The step is chosen for the sample with the largest error, so that a sample's result does
    not depend on the batch it came in by more than the tolerance.

    Args:
        velocity: `velocity(x, t)`, states (N, *E) and times (N,) to (N, *E).
        x: State at time s, (N, *E); or several that move together, as a tuple of such tensors,
            which the velocity then takes and returns.
        s: Start, number or (N,) in [0, 1].
        t: End, likewise.
        tolerance: Largest error of a step, relative and absolute; by default 1e-9 in float64 and
            1e-5 in float32.
        steps: Equal steps of the midpoint method, two evaluations each, in place of a tolerance.

    Returns:
        State at time t, as x, with a (reverse-mode) gradient in x, the times and the velocity's
        parameters.

    Raises:
        FloatingPointError: If no step is short enough, or too many are needed: a state or the
            velocity there is too large.
    """
    from torchdiffeq import odeint  # late, for it imports scipy

    first = _parts(x)[0]
    s, t = as_time(s, first), as_time(t, first)
    default = TOLERANCE.get(first.dtype, 1e-5)
    tolerance = checks.positive("tolerance", default if tolerance is None else tolerance)

    def field(clock: Tensor, state: Any) -> Any:
        change = velocity(state, torch.lerp(s, t, clock.to(s)))
        if isinstance(change, tuple):
            return tuple(expand_time(t - s, part) * part for part in change)
        return expand_time(t - s, change) * change

    if steps is not None:
        count = checks.count("steps", steps)
        clock = torch.linspace(0, 1, count + 1, dtype=torch.float64, device=first.device)
        return _at_end(odeint(field, x, clock, method="midpoint"))
    clock = torch.tensor([0.0, 1.0], dtype=torch.float64, device=first.device)
    most = MOST_STEPS.get(first.dtype, 250)
    options = {"norm": _largest_error, "dtype": torch.float64, "max_num_steps": most}
    try:
        path = odeint(
            field, x, clock, rtol=tolerance, atol=tolerance, method="dopri5", options=options
        )
    except AssertionError as error:  # how the solver says it
        raise FloatingPointError(_why_it_failed(x, field(clock[0], x), error)) from error
    return _at_end(path)


def _why_it_failed(x: Tensor | States, change: Tensor | States, error: Exception) -> str:
    """What to say of states that the solver cannot follow, with their change at the start."""
    if any(part.isnan().any() for part in _parts(change)):
        return "the velocity function must give finite numbers, got NaN where the ODE starts"
    largest = max(part.detach().abs().max().item() for part in _parts(x))
    return (
        f"the ODE cannot be followed ({error}): the largest number in its {len(_parts(x)[0])} "
        f"states is {largest:.3g}. A correction that drove a state away? Clip it, or take more "
        "steps"
    )


def _parts(x: Tensor | States) -> States:
    return x if isinstance(x, tuple) else (x,)


def _at_end(path: Any) -> Tensor | States:
    """The last of the states (T, N, *E) of a path, or of each of several."""
    return tuple(part[-1] for part in path) if isinstance(path, tuple) else cast(Tensor, path)[-1]


def _largest_error(error: Tensor | States) -> Tensor:
    """Root mean square over a sample's numbers, maximum over the samples."""
    if isinstance(error, tuple):
        error = torch.cat([part.reshape(len(part), -1) for part in error], dim=1)
    return error.flatten(1).square().mean(1).sqrt().max() if error.ndim > 1 else error.abs().max()
