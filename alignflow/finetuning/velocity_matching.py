r"""Tuners that regress the velocity on a target of their own, at states of the base's own path.

.. math:: I_t = (1-t)\, x_0 + t\, x_1, \quad x_1 \sim \rho_1, \qquad
    \min_\theta \; \mathbb{E}\, \lvert b_\theta(I_t, t) - \text{target} \rvert^2

Endpoints are drawn and scored in pools. Off the diagonal the policy's jumps follow its velocity by
self-distillation, so that what comes out is a few-step map. They are learned on the path to the
tilt, where the tuned map goes: elsewhere, where rewards are poor, no target holds the velocity, and
jumps that teach themselves there run away with it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from alignflow.flow_map import FlowMap

from .pooled import Pooled

__all__ = ["At", "VelocityMatching"]


@dataclass(frozen=True)
class At:
    """What a target is made of, at N states of the path.

    Args:
        state: (N, *E).
        time: (N,).
        direction: d = x1 - x0, (N, *E).
        base: The base's velocity, (N, *E).
        own: The tuned model's, (N, *E), without a graph.
        condition: (N, ...), or None.
    """

    state: Tensor
    time: Tensor
    direction: Tensor
    base: Tensor
    own: Tensor
    condition: Any


class VelocityMatching(Pooled):
    """What these tuners share; one of them gives `target`. Arguments are those of `Pooled`."""

    def __init__(self, policy: FlowMap, reward: Any, strength: float, **options):
        super().__init__(policy, reward, strength, **options)
        self.diagonal_fraction = self.distillation.diagonal_fraction
        if not 0 < self.diagonal_fraction < 1:
            raise ValueError(f"diagonal_fraction must lie in (0, 1), got {self.diagonal_fraction}")
        # the jumps only; the diagonal is this loss's own
        self.distillation.diagonal_fraction = 0.0

    def target(self, rows: TensorDictBase, at: At) -> Tensor:
        """What the velocity is regressed on, (N, *E), for rows of a batch."""
        raise NotImplementedError

    def sample_batch(self, n: int) -> TensorDict:
        """n candidates: `data` (n, *E) and perhaps `condition` (n, ...).

        The last of them, for the jumps, are drawn by their weights.
        """
        return self.under_keys(self.drawn(n).exclude("weight", "gain"))

    def drawn(self, n: int) -> TensorDict:
        """n rows of the pool with what each is worth, the last of them drawn by it."""
        return self.pool.draw(n, n - self._diagonal(n))

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of a batch as `sample_batch` draws it."""
        n = len(tensordict)
        diagonal = self._diagonal(n)
        near, far = tensordict.split([diagonal, n - diagonal])
        losses: dict[str, Any] = {"loss_diagonal": diagonal / n * self._regression(near)}
        if len(far):
            jumps = self.distil(far.get(self.tensor_keys.data), self._condition(far))
            losses["loss_map"] = (1 - diagonal / n) * jumps["loss_map"]
        return TensorDict({**losses, "effective_share": self.pool.share.clone()})

    def _diagonal(self, n: int) -> int:
        return n - round((1 - self.diagonal_fraction) * n)

    def _condition(self, rows: TensorDictBase) -> Any:
        return rows.get(self.tensor_keys.condition, None)

    def _regression(self, rows: TensorDictBase) -> Tensor:
        times, path = self.distillation.times, self.distillation.path
        x1, condition = rows.get(self.tensor_keys.data), self._condition(rows)
        t = times.diagonal(len(x1), self.generator).to(x1)
        x0 = torch.randn(x1.shape, generator=self.generator, dtype=x1.dtype).to(x1.device)
        x, direction = path.state(x0, x1, t), path.velocity(x0, x1, t)
        own = self.policy.velocity(x, t, condition)
        with torch.no_grad():
            base = self.base.velocity(x, t, condition)
            target = self.target(rows, At(x, t, direction, base, own.detach(), condition))
        return (own - target).float().square().mean()
