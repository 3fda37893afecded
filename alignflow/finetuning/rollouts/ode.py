"""Rollouts by the ODE of the velocity, from noise, with the density of their endpoints."""

from collections.abc import Callable

import torch
from torch import Tensor

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.likelihood import noise_log_density, push, rademacher
from alignflow.ode import integrate

from .paths import Path, recomputed

__all__ = ["ODERollout"]


class ODERollout:
    """Equal midpoint steps of the ODE, with the change of the density by the divergence.

    Args:
        jumps: Steps, of two forwards each.
        probes: Random probes of the divergence; 0 takes it exactly, at a vjp for each number of a
            state.
        recompute: Whether the backward pass recomputes each velocity instead of storing it.
    """

    trains_velocity = True
    start = "noise"

    def __init__(self, jumps: int = 8, probes: int = 1, recompute: bool = False):
        self.jumps = checks.count("jumps", jumps)
        self.probes = checks.count("probes", probes, least=0)
        self.recompute = checks.flag("recompute", recompute)

    def __call__(
        self,
        model: FlowMap,
        x: Tensor,
        start: Tensor,
        condition=None,
        generator: torch.Generator | None = None,
    ) -> Path:
        """From noise (N, *E), at times (N,) that are 0, to endpoints and their density."""
        # one set for all models: where they agree the log-ratio is the solver's error alone
        probes = rademacher(self.probes, x, generator)

        def velocity_of(model: FlowMap) -> Callable[..., Tensor]:
            return recomputed(lambda x, t: model.velocity(x, t, condition), self.recompute)

        def carried(model: FlowMap, x: Tensor, s: float, t: float) -> tuple[Tensor, Tensor]:
            return push(velocity_of(model), x, s, t, probes, steps=self.jumps)

        def replay(other: FlowMap) -> Tensor:
            return integrate(velocity_of(other), x, 0.0, 1.0, steps=self.jumps)

        endpoint, integral = carried(model, x, 0.0, 1.0)

        def log_ratio(other: FlowMap) -> Tensor:
            noise, back = carried(other, endpoint, 1.0, 0.0)
            return noise_log_density(x) - integral - noise_log_density(noise) - back

        return Path(endpoint, replay, log_ratio=log_ratio)
