"""Langevin moves: samples of a tuned model moved until they follow the tilt exactly.

The moves are those of `alignflow.mala`, whose invariant density is here exp(strength r) rho_1.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from alignflow import checks
from alignflow.mala import ACCEPTED, move, point_at
from alignflow.tilt import Tilt

__all__ = ["Langevin"]

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

        size, fraction = self.step_size, 0.0
        at = point_at(log_density, state)
        for step in range(self.steps):
            at, accepted = move(at, size, log_density, generator)
            fraction = accepted.double().mean().item()
            size *= math.exp((fraction - ACCEPTED) / (step + 1) ** 0.5)
        if fraction < STUCK:
            warnings.warn(
                f"only {fraction:.0%} of the last Langevin moves were accepted: "
                "take more steps, or a smaller step_size",
                stacklevel=2,
            )
        return at.state
