"""Metrics of a run: the reward it trains on, and what that reward does not see."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from alignflow import checks
from alignflow.conditions import cycled
from alignflow.flow_map import FlowMap
from alignflow.metrics import evaluate, mean
from alignflow.modes import frozen
from alignflow.reward_module import Reward, as_reward

__all__ = ["Monitor"]

SAMPLES = 256
EXACT = 2048  # of the exact tilt
DISTANCES = ("sliced_w2", "mmd", "energy_distance")


class Monitor:
    """Metrics of a tuned policy beside its base, from the same noise every time.

    The mean `reward`, each `held_out_<name>` with its standard error (`..._error`), the `diversity`
    of samples, and the distance to the base: of the distributions (`sliced_w2`, `mmd`,
    `energy_distance`) and, as `displacement`, the mean square between the endpoints of one noise, a
    dimension. A reward that rises while a held-out one or the diversity falls is being exploited.
    Where the exact tilt is known, the same distances to it as `tilt_<distance>`.

    Args:
        base: The untuned policy.
        reward: What is trained on.
        held_out: Rewards by name that are not.
        tilt: The exact tilt, whose `sample(n, generator=generator)` is exact; None if not known.
        condition: Conditions, rows (C, ...), cycled; None for none.
        steps: Jumps of a sample.
        also: Another callable `(step, model) -> metrics`, whose metrics are added.
        strength: At which a policy of many is sampled.
    """

    def __init__(
        self,
        base: FlowMap,
        reward: Reward,
        held_out: Mapping[str, Any] | None = None,
        tilt: Any = None,
        condition: Any = None,
        steps: int = 4,
        also: Callable[[int, Any], dict[str, float]] | None = None,
        strength: float | None = None,
    ):
        self.reward, self.steps, self.also = reward, checks.count("steps", steps), also
        self.held_out = {name: as_reward(other) for name, other in (held_out or {}).items()}
        self.condition = cycled(condition, SAMPLES, base.device)
        self.base, self.tilt, self.strength = base, tilt, strength

    @cached_property
    def base_samples(self) -> Tensor:
        """Samples of the base, (N, *E)."""
        with frozen(self.base):
            return self._sample(self.base)

    @cached_property
    def tilted_samples(self) -> Tensor:
        """Samples of the exact tilt, (N, *E)."""
        return self.tilt.sample(EXACT, generator=self._generator()).to(self.base.device)

    @torch.no_grad()
    def __call__(self, step: int, model: Any) -> dict[str, float]:
        """Metrics of a model."""
        with frozen(model, self.reward, *self.held_out.values()):
            return self._measure(step, model)

    def _measure(self, step: int, model: Any) -> dict[str, float]:
        samples = self._sample(model)
        found = evaluate(
            samples,
            self.reward,
            self.base_samples,
            condition=self.condition,
            decode=model.decode,
            generator=self._generator(),
        )
        metrics = {name: estimate.value for name, estimate in found.items()}
        for name, other in self.held_out.items():
            scores = mean(other.score(samples, self.condition, model.decode))
            metrics[f"held_out_{name}"] = scores.value
            metrics[f"held_out_{name}_error"] = scores.standard_error
        metrics["displacement"] = (samples - self.base_samples).square().mean().item()
        if self.tilt is not None:
            exact = evaluate(samples, reference=self.tilted_samples, generator=self._generator())
            metrics |= {f"tilt_{name}": exact[name].value for name in DISTANCES}
        return metrics if self.also is None else metrics | self.also(step, model)

    @torch.no_grad()
    def _sample(self, model: FlowMap) -> Tensor:
        return model.sample(
            SAMPLES,
            self.steps,
            self.condition,
            generator=self._generator(),
            strength=self.strength,
        )

    @staticmethod
    def _generator() -> torch.Generator:
        # not the run's, which stays untouched; the same noise at each call
        return torch.Generator().manual_seed(0)
