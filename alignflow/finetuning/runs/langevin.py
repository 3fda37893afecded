r"""Langevin moves: samples of a tuned model moved until they follow the tilt exactly.

.. math:: y = x + h\,g(x) + \sqrt{2h}\,\epsilon, \qquad
    g = \nabla \log \pi \cdot \min\!\Big(1, \frac{\sqrt{2hD}}{h\,|\nabla \log \pi|}\Big), \qquad
    \pi \propto e^{\lambda r} \rho_1

Each move is accepted by the rule of Metropolis, so that pi is invariant whatever the samples were.
A drift is at most as long as its noise in D numbers: samples where the density falls steeply, as of
particles that overlap, are moved out and not rejected for good.

Source: Roberts and Tweedie 1996, the truncated algorithm (MALTA).
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignflow import checks
from alignflow.interpolants import expand_time
from alignflow.tilt import Tilt

__all__ = ["Langevin"]

ACCEPTED = 0.574  # fraction of moves that is best in many dimensions (Roberts and Rosenthal 1998)
STUCK = 0.1


class Langevin:
    """Moves samples to the tilt of a distribution whose density is known.

    Args:
        distribution: rho_1, that of the policy before tuning: `log_density(x)` of states (N, *E),
            up to a constant.
        steps: Moves of each sample; each takes a gradient of the density and one of the reward.
        step_size: h of the first move; it is then adapted until 57 of 100 are accepted.
    """

    def __init__(self, distribution: Any, steps: int = 100, step_size: float = 1e-3):
        if not hasattr(distribution, "log_density"):
            raise ValueError(
                "Langevin needs a distribution with a log_density(x), "
                f"{type(distribution).__name__} has none"
            )
        self.distribution, self.steps = distribution, checks.count("steps", steps)
        self.step_size = checks.positive("step_size", step_size)

    def __call__(
        self,
        state: Tensor,
        tilt: Tilt,
        decode: Callable[[Tensor], Any],
        generator: torch.Generator,
    ) -> Tensor:
        """States (N, *E) after the moves, for the tilt of the distribution.

        Raises:
            ValueError: If the reward is a black box.
        """
        if not tilt.reward.differentiable:
            raise ValueError(
                f"Langevin needs a gradient, and reward {tilt.reward.name!r} is a black box"
            )

        def log_density(x: Tensor) -> Tensor:
            _, log_weight = tilt.score(x, None, decode)
            return self.distribution.log_density(x).double() + log_weight.double()

        size, accepted = self.step_size, 0.0
        at = _At(state, *_with_gradient(log_density, state))
        for step in range(self.steps):
            at, accepted = _move(at, size, log_density, generator)
            size *= math.exp((accepted - ACCEPTED) / (step + 1) ** 0.5)
        if accepted < STUCK:
            warnings.warn(
                f"only {accepted:.0%} of the last Langevin moves were accepted: "
                "take more steps, or a smaller step_size",
                stacklevel=2,
            )
        return at.state


class _At(NamedTuple):
    """States (N, *E), with their log-density (N,) and its gradient (N, *E)."""

    state: Tensor
    log_prob: Tensor
    grad: Tensor


def _move(
    at: _At, size: float, log_density: Callable[[Tensor], Tensor], generator: torch.Generator
) -> tuple[_At, float]:
    """One move, and the fraction of samples for which it was accepted."""
    state, source = at.state, generator.device
    noise = torch.randn(state.shape, generator=generator, device=source, dtype=state.dtype)
    noise = noise.to(state)
    moved = state + size * _drift(at.grad, size) + (2 * size) ** 0.5 * noise
    there = _At(moved, *_with_gradient(log_density, moved))
    back = (state - moved - size * _drift(there.grad, size)).flatten(1).double()
    # log-densities of the proposals: of the reverse move, less that of the move
    ratio = noise.flatten(1).double().square().sum(1) / 2 - back.square().sum(1) / (4 * size)
    shape = (len(state),)
    uniform = torch.rand(shape, generator=generator, device=source, dtype=torch.float64)
    accepted = uniform.to(at.log_prob).log() < there.log_prob - at.log_prob + ratio
    now = (
        torch.where(expand_time(accepted, new), new, old)
        for new, old in zip(there, at, strict=True)
    )
    return _At(*now), accepted.double().mean().item()


@torch.enable_grad()
def _with_gradient(log_density: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    log_prob = log_density(x)
    (grad,) = torch.autograd.grad(log_prob.sum(), x)
    # where the density is 0 there may be no gradient: such a sample moves by noise alone
    return log_prob.detach(), grad.nan_to_num(0.0, 0.0, 0.0)


def _drift(grad: Tensor, size: float) -> Tensor:
    """Gradients (N, *E), no longer than the noise of a step of this size."""
    most = (2 * grad[0].numel() / size) ** 0.5
    length = torch.linalg.vector_norm(grad.flatten(1), dim=1).clamp_min(1e-30)
    return grad * expand_time((most / length).clamp_max(1.0), grad)
