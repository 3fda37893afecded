r"""Langevin moves: samples of a tuned model led on until they are of the law it should have.

.. math:: y = x + h\,g(x) + \sqrt{2h}\,\epsilon, \qquad
    g = \nabla \log \pi \cdot \min\!\Big(1, \frac{\sqrt{2hD}}{h\,|\nabla \log \pi|}\Big), \qquad
    \pi \propto e^{\lambda r} \rho_1

Each move is accepted as Metropolis has it, so that pi is kept whatever the samples were. A drift is
at most as long as its noise in D numbers: samples where the density falls steeply, as of particles
that overlap, are led out and not thrown away.

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
from alignflow.reward_module import Reward, log_tilt

__all__ = ["Langevin"]

ACCEPTED = 0.574  # share of moves that is best in many dimensions (Roberts and Rosenthal 1998)
STUCK = 0.1


class Langevin:
    """Moves samples towards the tilt of a law whose density is known, and keeps it.

    Args:
        law: rho_1, that of the policy before tuning: `log_density(x)` of states (N, *E), up to a
            constant.
        steps: Moves of each sample; each takes a gradient of the density and one of the reward.
        step_size: h of the first move; it is then led to where 57 of 100 are accepted.
    """

    def __init__(self, law: Any, steps: int = 100, step_size: float = 1e-3):
        if not hasattr(law, "log_density"):
            raise ValueError(
                f"Langevin needs a law with a log_density(x), {type(law).__name__} has none"
            )
        self.law, self.steps = law, checks.count("steps", steps)
        self.step_size = checks.positive("step_size", step_size)

    def __call__(
        self,
        state: Tensor,
        reward: Reward,
        strength: float,
        decode: Callable[[Tensor], Any],
        generator: torch.Generator,
    ) -> Tensor:
        """States (N, *E) after the moves, for the tilt by `strength` of the law.

        Raises:
            ValueError: If the reward is a black box.
        """
        if not reward.differentiable:
            raise ValueError(
                f"Langevin needs a gradient, and reward {reward.name!r} is a black box"
            )

        def log_density(x: Tensor) -> Tensor:
            tilt = log_tilt(reward.score(x, None, decode), strength)
            return self.law.log_density(x).double() + tilt.double()

        size, accepted = self.step_size, 0.0
        at = _At(state, *_with_slope(log_density, state))
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
    """States (N, *E), with their log-density (N,) and its slope (N, *E)."""

    state: Tensor
    height: Tensor
    slope: Tensor


def _move(
    at: _At, size: float, log_density: Callable[[Tensor], Tensor], generator: torch.Generator
) -> tuple[_At, float]:
    """One move, and the share of samples that took it."""
    state = at.state
    noise = torch.randn(state.shape, generator=generator, dtype=state.dtype).to(state)
    moved = state + size * _drift(at.slope, size) + (2 * size) ** 0.5 * noise
    there = _At(moved, *_with_slope(log_density, moved))
    back = (state - moved - size * _drift(there.slope, size)).flatten(1).double()
    # log-densities: of the way back, less that of the way here
    ways = noise.flatten(1).double().square().sum(1) / 2 - back.square().sum(1) / (4 * size)
    uniform = torch.rand(len(state), generator=generator, dtype=torch.float64).to(at.height)
    taken = uniform.log() < there.height - at.height + ways
    kept = (
        torch.where(expand_time(taken, new), new, old) for new, old in zip(there, at, strict=True)
    )
    return _At(*kept), taken.double().mean().item()


@torch.enable_grad()
def _with_slope(log_density: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    height = log_density(x)
    (slope,) = torch.autograd.grad(height.sum(), x)
    # where the density is 0 there may be no slope: such a sample moves by noise alone
    return height.detach(), slope.nan_to_num(0.0, 0.0, 0.0)


def _drift(slope: Tensor, size: float) -> Tensor:
    """Slopes (N, *E), no longer than what makes a move of a step's noise."""
    most = (2 * slope[0].numel() / size) ** 0.5
    length = torch.linalg.vector_norm(slope.flatten(1), dim=1).clamp_min(1e-30)
    return slope * expand_time((most / length).clamp_max(1.0), slope)
