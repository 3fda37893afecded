r"""A tuning that diverges is stopped, by what it samples beside what its base does.

.. math:: q_{99}(\lvert x - m \rvert) > 10 \; q_{99}(\lvert x_{\rm base} - m \rvert), \qquad
    m = \mathbb{E}\, x_{\rm base}

A tilt only reweighs the base's samples, so that no sample of it lies where the base has none. A
diverging network has such samples: where no target constrains it its output drifts, and takes the
rest along. Both its jumps and its velocity are followed, from a noise that no run draws.
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from alignflow.conditions import cycled
from alignflow.flow_map import FlowMap
from alignflow.modes import frozen

__all__ = ["Runaway", "RunawayError"]

SAMPLES = 32, 256  # at least and at most; between them as many as a batch has rows
STEPS = 4
EVERY = 250  # steps of a tuning, of which a few cost about as much as a check
QUANTILE = 0.99
FACTOR = 10.0
TINY = 1e-12


class RunawayError(FloatingPointError):
    """A tuned model has diverged: it samples what no tilt of its base could."""


class Runaway:
    """Checks a model as it is tuned.

    Args:
        method: Name of the tuner.
        base: The policy as it was.
        batch_size: Rows of a step of the tuning.
        condition: Conditions, rows (C, ...), cycled; None for none.
        strength: At which a policy of many is sampled.
    """

    def __init__(
        self,
        method: str,
        base: FlowMap,
        batch_size: int,
        condition: Any = None,
        strength: float | None = None,
    ):
        least, most = SAMPLES
        self.method, self.base = method, base
        self.samples = max(least, min(batch_size, most))
        rows = cycled(condition, self.samples, base.device)
        self.condition = base.with_strength(rows, strength)

    @cached_property
    def _base_samples(self) -> Tensor:
        with frozen(self.base):
            return self._sample(self.base)

    @cached_property
    def center(self) -> Tensor:
        """Mean of the base's samples, (*E)."""
        return self._base_samples.mean(0)

    @cached_property
    def reach(self) -> float:
        """How far out the base's samples lie."""
        return max(self._reach(self._base_samples), TINY)

    def check(self, model: FlowMap, step: int) -> None:
        """Refuse a model that has diverged.

        Raises:
            RunawayError: With the step and what was measured.
        """
        ratio = self._reach(self._sample(model)) / self.reach
        if not ratio <= FACTOR:  # NaN neither
            raise RunawayError(
                f"{self.method} ran away: at step {step} one sample in a hundred lies {ratio:.3g} "
                "times as far out as those of the base, whose tilt has none there. Use "
                "method='weighted', whose target is data; reach the tilt in parts with "
                "annealing_stages=, or lower the strength or the learning rate"
            )

    def watch(self, model: FlowMap, step: int) -> None:
        """Check a model every so many steps; after each step of a tuning."""
        if step % EVERY == 0:
            self.check(model, step)

    @torch.no_grad()
    def _sample(self, model: FlowMap) -> Tensor:
        """States by jumps and as many by the velocity, (2 N, *E), in few steps from one noise."""
        noise = model.noise(self.samples, torch.Generator().manual_seed(0))
        jumped = flowed = noise
        for step in range(STEPS):
            start, end = step / STEPS, (step + 1) / STEPS
            jumped = model.flow_map(jumped, start, end, self.condition)
            flowed = flowed + model.velocity(flowed, start, self.condition) / STEPS
        return torch.cat([jumped, flowed])

    def _reach(self, states: Tensor) -> float:
        """How far out one state in a hundred lies; infinity where some state is no number."""
        distance = (states - self.center).flatten(1).double().norm(dim=1)
        if not distance.isfinite().all():
            return float("inf")
        return distance.quantile(QUANTILE).item()
