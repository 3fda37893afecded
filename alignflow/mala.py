r"""Metropolis-adjusted Langevin moves, with a drift of bounded length.

.. math:: y = x + h\,g(x) + \sqrt{2h}\,\epsilon, \qquad
    g = \nabla \log \pi \cdot \min\!\Big(1, \frac{\sqrt{2hD}}{h\,|\nabla \log \pi|}\Big)

A move is accepted by the rule of Metropolis, so that pi is invariant. A drift is at most as long as
its noise in D numbers: states where the density falls steeply, as of particles that overlap, are
moved out and not rejected for good.

Source: Roberts and Tweedie 1996, the truncated algorithm (MALTA).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from alignflow.draws import normal, uniform
from alignflow.interpolants import expand_time

__all__ = ["ACCEPTED", "Point", "move", "point_at"]

ACCEPTED = 0.574
"""Fraction of moves that is best in many dimensions (Roberts and Rosenthal 1998)."""

LogDensity = Callable[[Tensor], Tensor]


class Point(NamedTuple):
    """States of which each moves alone."""

    state: Tensor
    """(N, *E)."""
    log_prob: Tensor
    """log pi, (N,), up to a constant."""
    grad: Tensor
    """Its gradient, (N, *E)."""


@torch.enable_grad()
def point_at(log_density: LogDensity, x: Tensor) -> Point:
    """States (N, *E) with their log-density and its gradient."""
    x = x.detach().requires_grad_()
    log_prob = log_density(x)
    (grad,) = torch.autograd.grad(log_prob.sum(), x)
    # where the density is 0 there may be no gradient: such a state moves by noise alone
    return Point(x.detach(), log_prob.detach(), grad.nan_to_num(0.0, 0.0, 0.0))


def move(
    at: Point, size: float | Tensor, log_density: LogDensity, generator: torch.Generator
) -> tuple[Point, Tensor]:
    """One move of each state.

    Args:
        at: Where they are.
        size: h, a number or (N,).
        log_density: log pi, of states (N, *E) to (N,).
        generator: Source of the proposals and of their acceptance.

    Returns:
        Where they are then, and which moves were accepted, (N,).
    """
    state = at.state
    wide = expand_time(size, state) if isinstance(size, Tensor) else size
    noise = normal(state.shape, generator, state.dtype, state.device)
    moved = state + wide * _drift(at.grad, size) + (2 * wide) ** 0.5 * noise
    there = point_at(log_density, moved)
    back = (state - moved - wide * _drift(there.grad, size)).flatten(1).double()
    # log-densities of the proposals: of the reverse move, less that of the move
    ratio = noise.flatten(1).double().square().sum(1) / 2 - back.square().sum(1) / (4 * size)
    chance = uniform((len(state),), generator, torch.float64, state.device).to(at.log_prob)
    accepted = chance.log() < there.log_prob - at.log_prob + ratio
    now = (
        torch.where(expand_time(accepted, new), new, old)
        for new, old in zip(there, at, strict=True)
    )
    return Point(*now), accepted


def _drift(grad: Tensor, size: float | Tensor) -> Tensor:
    """Gradients (N, *E), no longer than the noise of a move of this size."""
    most = (2 * grad[0].numel() / size) ** 0.5
    length = torch.linalg.vector_norm(grad.flatten(1), dim=1).clamp_min(1e-30)
    return grad * expand_time((most / length).clamp_max(1.0), grad)
