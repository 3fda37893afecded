r"""Tuners that regress the velocity on a target, at states of the base's path.

.. math:: I_t = (1-t)\, x_0 + t\, x_1, \quad x_1 \sim \rho_1, \qquad
    \min_\theta \; \mathbb{E}\, \lvert b_\theta(I_t, t) - \text{target} \rvert^2

Endpoints are drawn and scored in pools. Off the diagonal the policy's jumps follow its velocity by
self-distillation, so that the result is a few-step map. They are learned on the path to the tilt,
where the tuned map goes: off that path no target fixes the velocity, and self-distillation diverges
there.
"""

from dataclasses import dataclass
from typing import Any

from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from alignflow.finetuning.problem import Problem
from alignflow.strengths import without_strength

from .pooled import PooledMethod, PooledTuner

__all__ = ["PathBatch", "VelocityMatching", "VelocityMatchingTuner"]


@dataclass(frozen=True)
class PathBatch:
    """What a target is made of, at N states of the path.

    Args:
        state: (N, *E).
        time: (N,).
        direction: d = x1 - x0, (N, *E).
        base: The base's velocity, (N, *E).
        model: The tuned model's, (N, *E), without a graph.
        condition: (N, ...), or None.
    """

    state: Tensor
    time: Tensor
    direction: Tensor
    base: Tensor
    model: Tensor
    condition: Any


@dataclass(frozen=True, kw_only=True)
class VelocityMatching(PooledMethod):
    """Settings of a tuner that regresses the velocity."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.diagonal_fraction < 1:
            raise ValueError(f"diagonal_fraction must lie in (0, 1), got {self.diagonal_fraction}")


class VelocityMatchingTuner(PooledTuner):
    """What these tuners share; a subclass implements `target`.

    Args:
        problem: What is tuned.
        method: How.
    """

    def __init__(self, problem: Problem, method: VelocityMatching):
        # `distil` trains the jumps only: the diagonal is matched here
        super().__init__(problem, method, diagonal_fraction=0.0)
        self.diagonal_fraction = method.diagonal_fraction

    def target(self, rows: TensorDictBase, at: PathBatch) -> Tensor:
        """What the velocity is regressed on, (N, *E), for rows of a batch."""
        raise NotImplementedError

    def sample_batch(self, n: int) -> TensorDict:
        """n candidates: `data` (n, *E) and perhaps `condition` (n, ...).

        The last of them, for the jumps, are drawn by their weights.
        """
        return self.renamed(self.draw(n).exclude("weight", "centered"))

    def draw(self, n: int) -> TensorDict:
        """n rows of the pool with their weights, the last of them, for the jumps, drawn by them."""
        return self.pool.draw(n, n - self._diagonal(n))

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of a batch as `sample_batch` draws it."""
        n = len(tensordict)
        diagonal = self._diagonal(n)
        near, far = tensordict.split([diagonal, n - diagonal])
        losses: dict[str, Any] = {"loss_diagonal": diagonal / n * self._regression(near)}
        if len(far):
            jumps = self.distil(self.read(far, "data"), self.read(far, "condition"))
            losses["loss_map"] = (1 - diagonal / n) * jumps["loss_map"]
        return TensorDict({**losses, "ess_fraction": self.pool.ess_fraction.clone()})

    def _diagonal(self, n: int) -> int:
        return n - round((1 - self.diagonal_fraction) * n)

    def _regression(self, rows: TensorDictBase) -> Tensor:
        times, path = self.distillation.times, self.distillation.path
        x1, condition = self.read(rows, "data"), self.read(rows, "condition")
        t = times.diagonal(len(x1), self.generator).to(x1)
        x0 = self.policy.noise(len(x1), self.generator).to(x1)
        x, direction = path.state(x0, x1, t), path.velocity(x0, x1, t)

        def target(model: Tensor) -> Tensor:
            base = self.base.velocity(x, t, without_strength(condition))
            return self.target(rows, PathBatch(x, t, direction, base, model, condition))

        return self.distillation.match(x, t, target, condition)
