r"""The density of a few-step map, by the Jacobians of its jumps.

.. math::
    \log \rho(x_1) = \log \mathcal{N}(x_0; 0, I)
        - \sum_k \log \lvert \det \nabla X_{t_k, t_{k+1}}(x_{t_k}) \rvert

It is the density of the map's own samples, whatever the map has learned: no ODE is solved, and no
error of the jumps enters. It takes a map that is one-to-one; where several noises end at the same
sample, it is the part of one of them. A map whose determinants have both signs is not one-to-one.

Sources: FALCON (2512.09914) and SCALLOP (2606.29110) for weights by the Jacobians of jumps.
"""

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from alignflow import checks
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.interpolants import check_grid, uniform_grid
from alignflow.likelihood import noise_log_density

__all__ = ["invert_jump", "jump_log_density", "jump_with_log_det", "sample_with_jump_density"]

LARGEST = 1024  # numbers of a state, of which a Jacobian has the square
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
HALVINGS = 10  # of a Newton step
CURE = "Take more steps, or train the map with pretrain(..., invertibility=1.0)"


@torch.no_grad()
def sample_with_jump_density(
    model: FlowMap,
    n: int,
    generator: torch.Generator | int | None = None,
    condition: Any = None,
    *,
    steps: int = 4,
    grid: Tensor | Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:
    """n samples of a model in a few jumps, (n, *E), and their log-densities in nats, (n,).

    The samples are those of `model.sample` for the same generator. Weights rho / rho_1 of an
    unnormalized density rho make averages over them unbiased up to the normalizer.

    Args:
        model: A flow map that is one-to-one.
        n: Number of samples.
        generator: Source of the noise, or its seed.
        condition: Of the model.
        steps: Jumps of equal length; ignored where `grid` is given.
        grid: Increasing times from 0 to 1, (steps + 1,).

    Raises:
        ValueError: If the states have no density, or are too large for Jacobians.
        FloatingPointError: If a Jacobian is singular.
    """
    times = _times(model, steps, grid)
    x = model.noise(n, checks.as_generator(generator))
    condition = model.condition_rows(condition, len(x))
    density = noise_log_density(x)
    for s, t in pairwise(times):
        x, change = jump_with_log_det(model, x, s, t, condition)
        density = density - change
    return x, density


def jump_log_density(
    model: FlowMap,
    x: Tensor,
    condition: Any = None,
    *,
    steps: int = 4,
    grid: Tensor | Sequence[float] | None = None,
    tolerance: float | None = None,
    iterations: int = 50,
) -> Tensor:
    """Log-density of data under a few-step map, (N,), in nats, by the inverse of each jump.

    Args:
        model: A flow map that is one-to-one.
        x: States at time 1, (N, *E).
        condition: Of the model.
        steps: Jumps of equal length; ignored where `grid` is given.
        grid: Increasing times from 0 to 1, (steps + 1,).
        tolerance: Of the inverses, as `invert_jump` takes it.
        iterations: Of each inverse.

    Returns:
        (N,), with a gradient in the states and in the parameters.

    Raises:
        ValueError: If the states have no density, or are too large for Jacobians.
        FloatingPointError: If some row has no inverse, or a Jacobian is singular.
    """
    times = _times(model, steps, grid)
    model.check_state(x)
    condition = model.condition_rows(condition, len(x))
    change = x.new_zeros(len(x))
    for t, s in pairwise(reversed(times)):
        source = invert_jump(model, x, s, t, condition, tolerance=tolerance, iterations=iterations)
        if torch.is_grad_enabled():
            source = _with_gradient(model, source, x, s, t, condition)
        change = change + jump_with_log_det(model, source, s, t, condition)[1]
        x = source
    return noise_log_density(x) - change


def jump_with_log_det(
    model: FlowMap, x: Tensor, s: float, t: float, condition: Any = None
) -> tuple[Tensor, Tensor]:
    r"""A jump X_{s,t}(x), (N, *E), and :math:`\log \lvert \det \nabla X_{s,t}(x) \rvert`, (N,).

    The Jacobian is exact, at a vjp for each number of a state. Both have a graph where gradients
    are enabled.

    Warns:
        UserWarning: If determinants have both signs.

    Raises:
        ValueError: If the states have no density, or are too large for Jacobians.
        FloatingPointError: If a Jacobian is singular.
    """
    check_jacobians(model)
    moved, jacobian = _jacobian(model, x, s, t, condition)
    sign, log_det = torch.linalg.slogdet(jacobian)
    if bad := int((~log_det.isfinite()).sum()):
        raise FloatingPointError(
            f"the Jacobian of the jump from {s:g} to {t:g} is singular at {bad} of {len(x)} "
            "states: the map has no inverse there, and its samples no density"
        )
    turned = int((sign < 0).sum())
    if 0 < turned < len(x):
        warnings.warn(
            f"the jump from {s:g} to {t:g} is not one-to-one: its Jacobian has a negative "
            f"determinant at {turned} of {len(x)} states, and a positive one at the others. "
            f"Densities are those of one of several noises, which biases weights. {CURE}",
            stacklevel=2,
        )
    return moved, log_det


@torch.no_grad()
def invert_jump(
    model: FlowMap,
    x: Tensor,
    s: float,
    t: float,
    condition: Any = None,
    *,
    tolerance: float | None = None,
    iterations: int = 50,
) -> Tensor:
    """The states at s from which a jump ends at x at time t, (N, *E), by Newton's method.

    It starts at X_{t,s}(x) where the map runs backwards, or else at x. Steps that come no nearer
    are halved, row by row.

    Args:
        model: The map.
        x: States at time t, (N, *E).
        s: Start of the jump.
        t: End of the jump.
        condition: N rows of it, or None.
        tolerance: Largest root mean square, over a state, of what the jump misses, relative to
            1 + that of the state; by default 1e-10 in float64 and 1e-5 in float32.
        iterations: Newton steps, of a Jacobian each.

    Raises:
        ValueError: If the states have no density, or are too large for Jacobians.
        FloatingPointError: If a row does not converge.
    """
    check_jacobians(model)
    default = TOLERANCE.get(x.dtype, 1e-3)
    tolerance = checks.positive("tolerance", default if tolerance is None else tolerance)
    limit = tolerance * (1 + _size(x))
    source = _first_guess(model, x, s, t, condition)
    for _ in range(checks.count("iterations", iterations)):
        moved, jacobian = _jacobian(model, source, s, t, condition)
        missed = _size(x - moved)
        if (missed <= limit).all():
            return source
        # no error where it is singular: such a row comes no nearer
        step = torch.linalg.solve_ex(jacobian, (x - moved).flatten(1)).result.view_as(x)
        source, nearer = _descend(model, x, s, t, condition, source, step, missed)
        if not (nearer | (missed <= limit)).any():
            break
    missed = _size(x - model.flow_map(source, s, t, condition))
    failed = ~(missed <= limit)
    if failed.any():
        raise FloatingPointError(
            f"no inverse of the jump from {s:g} to {t:g} was found for {int(failed.sum())} of "
            f"{len(x)} rows: the nearest it comes misses them by up to {missed[failed].max():.3g}. "
            f"{CURE}"
        )
    return source


def check_jacobians(model: FlowMap) -> None:
    """Refuse models whose jumps have no Jacobian with a determinant, or one that is too large."""
    check_flow_map("model", model)
    if model.prediction.is_logits:
        raise ValueError(
            "states on the simplex have no density: the likelihood of tokens is bounded by "
            "alignflow.likelihood_bound"
        )
    if (size := model.event_shape.numel()) > LARGEST:
        raise ValueError(
            f"the Jacobian of a jump takes a vjp for each of the {size:,} numbers of a state, and "
            f"is exact up to {LARGEST:,}: alignflow.likelihood.log_density(..., probes=1) is the "
            "density of the ODE for larger ones"
        )


def _times(model: FlowMap, steps: int, grid: Tensor | Sequence[float] | None) -> list[float]:
    check_jacobians(model)
    return (uniform_grid(steps) if grid is None else check_grid(grid, whole=True)).tolist()


def _jacobian(
    model: FlowMap, x: Tensor, s: float, t: float, condition: Any
) -> tuple[Tensor, Tensor]:
    """X_{s,t}(x), (N, *E), and its Jacobian (N, D, D), with a graph where gradients are enabled."""
    wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        moved = model.flow_map(x, s, t, condition)
        # a row depends on no other, so that a sum over them has the gradients of each
        totals = moved.flatten(1).sum(0)
        rows = [
            torch.autograd.grad(
                total, x, retain_graph=True, create_graph=wanted, materialize_grads=True
            )[0].flatten(1)
            for total in totals
        ]
    jacobian = torch.stack(rows, dim=1)
    return (moved, jacobian) if wanted else (moved.detach(), jacobian.detach())


def _with_gradient(
    model: FlowMap, source: Tensor, x: Tensor, s: float, t: float, condition: Any
) -> Tensor:
    """The source of x, with its gradients by the implicit function theorem: a Newton step."""
    moved = model.flow_map(source, s, t, condition)
    with torch.no_grad():
        _, jacobian = _jacobian(model, source, s, t, condition)
    return source + torch.linalg.solve(jacobian, (x - moved).flatten(1)).view_as(x)


def _first_guess(model: FlowMap, x: Tensor, s: float, t: float, condition: Any) -> Tensor:
    if t == 1 and not model.prediction.velocity_at_end:
        return x
    try:
        model.check_order(t, s)
    except ValueError:
        return x
    back = model.flow_map(x, t, s, condition)
    near, far = (_size(x - model.flow_map(each, s, t, condition)) for each in (back, x))
    return torch.where(_as_rows(near < far, x), back, x)


def _descend(
    model: FlowMap,
    x: Tensor,
    s: float,
    t: float,
    condition: Any,
    source: Tensor,
    step: Tensor,
    missed: Tensor,
) -> tuple[Tensor, Tensor]:
    """Sources after the longest halved step that brings a row nearer, and which rows it did."""
    found, nearer = source, torch.zeros_like(missed, dtype=torch.bool)
    for _ in range(HALVINGS):
        trial = torch.where(_as_rows(nearer, x), found, source + step)
        nearer = nearer | (_size(x - model.flow_map(trial, s, t, condition)) < missed)
        found = torch.where(_as_rows(nearer, x), trial, source)
        if nearer.all():
            break
        step = step / 2
    return found, nearer


def _size(x: Tensor) -> Tensor:
    """Root mean square over each state, (N,)."""
    return x.flatten(1).square().mean(1).sqrt()


def _as_rows(mask: Tensor, x: Tensor) -> Tensor:
    return mask.view(-1, *(1,) * (x.ndim - 1))
