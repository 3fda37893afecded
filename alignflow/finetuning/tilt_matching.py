r"""Tilt matching: the velocity of the tilt by regression on endpoints of the base, scored once.

.. math:: I_t = (1-t)\, x_0 + t\, x_1, \quad x_1 \sim \rho_1, \qquad
    \min_\theta \; \mathbb{E}\, \lvert b_\theta(I_t, t) - \text{target} \rvert^2

The members of the family differ in their target, which is made of the direction d = x1 - x0, the
base's velocity b, the model's own and what the endpoint is worth. Endpoints must come from the
model whose velocity b is, or the fixed point is not the tilt; here both are the base.

Source: Tilt Matching (2512.21829).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives import LossModule

from alignflow.distillation import ESD, LSD, PSD, FlowMapLoss, UniformTimes
from alignflow.flow_map import FlowMap

from .pool import Pool
from .tuner import Tuner

__all__ = ["TiltMatching"]

CANDIDATE_STEPS = 8


class TiltMatching(Tuner):
    """What the family shares. A member gives `target`, and names the `worth` that it takes.

    Args:
        policy: The map being tuned.
        reward: Any reward.
        strength: lambda of the tilt.
        pool: Candidates held at a time.
        refresh_every: Batches between pools.
        candidate_steps: Jumps of the base that draw a candidate.
        rule: `PSD`, `LSD` or `ESD` off the diagonal.
        diagonal_fraction: Share of rows on the diagonal.
        times: Sampler of times.
        condition: One to tune for, or a tensor of them (C, ...). The tilt is of each condition's
            own distribution.
        base: The model that is tilted; a frozen copy of the policy by default.
        generator: Source of all randomness.
    """

    @dataclass
    class _AcceptedKeys(LossModule._AcceptedKeys):
        data: NestedKey = "data"
        worth: NestedKey = "worth"
        condition: NestedKey = "condition"

    takes_levels = True
    worth: ClassVar[str] = "weight"  # or "gain", as `Pool.draw` has them

    def __init__(
        self,
        policy: FlowMap,
        reward: Any,
        strength: float,
        *,
        pool: int = 8192,
        refresh_every: int = 250,
        candidate_steps: int = CANDIDATE_STEPS,
        rule: PSD | LSD | ESD = PSD(),  # noqa: B008 (it has no state)
        diagonal_fraction: float = 0.75,
        times: UniformTimes | None = None,
        condition: Any = None,
        base: FlowMap | None = None,
        generator: torch.Generator | None = None,
    ):
        generator = generator or torch.Generator().manual_seed(0)
        if not 0 < diagonal_fraction < 1:
            raise ValueError(f"diagonal_fraction must lie in (0, 1), got {diagonal_fraction}")
        # the jumps only; the diagonal is this loss's own
        distillation = FlowMapLoss(
            policy, rule, diagonal_fraction=0.0, times=times, generator=generator
        )
        super().__init__(
            policy,
            reward,
            strength,
            distillation=distillation,
            condition=condition,
            base=base,
            generator=generator,
        )
        self.diagonal_fraction = diagonal_fraction
        self.pool = Pool(
            self.base,
            self.reward,
            strength,
            pool,
            refresh_every,
            candidate_steps,
            generator,
            condition=self.condition,
        )

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, and the share of the pool that is effective."""
        return ["loss_diagonal", "loss_map", "effective_share"]

    def target(self, direction: Tensor, base: Tensor, own: Tensor, worth: Tensor) -> Tensor:
        """What the velocity is regressed on, (N, *E).

        Args:
            direction: d = x1 - x0, (N, *E).
            base: The base's velocity, (N, *E).
            own: The model's, (N, *E), without a graph.
            worth: Of the endpoint, (N, 1...).
        """
        raise NotImplementedError

    def sample_batch(self, n: int) -> TensorDict:
        """n candidates: `data` (n, *E), `worth` (n,) and perhaps `condition` (n, ...)."""
        drawn, keys = self.pool.draw(n), self.tensor_keys
        batch = TensorDict({keys.data: drawn["data"], keys.worth: drawn[self.worth]}, batch_size=n)
        if "condition" in drawn:
            batch[keys.condition] = drawn["condition"]
        return batch

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of candidates: `data` (N, *E), `worth` (N,), perhaps `condition` (N, ...)."""
        keys = self.tensor_keys
        x1, worth = tensordict.get(keys.data), tensordict.get(keys.worth)
        condition = tensordict.get(keys.condition, None)
        n = len(x1)
        diagonal = n - round((1 - self.diagonal_fraction) * n)
        near, far = slice(diagonal), slice(diagonal, n)
        of = (lambda rows: None) if condition is None else (lambda rows: condition[rows])
        losses = {"loss_diagonal": diagonal / n * self._regression(x1[near], worth[near], of(near))}
        if diagonal < n:
            jumps = self.distil(x1[far], of(far))["loss_map"]
            losses["loss_map"] = (1 - diagonal / n) * jumps
        return TensorDict({**losses, "effective_share": self.pool.share.clone()})

    def _regression(self, x1: Tensor, worth: Tensor, condition: Any) -> Tensor:
        times, path = self.distillation.times, self.distillation.path
        t = times.diagonal(len(x1), self.generator).to(x1)
        x0 = torch.randn(x1.shape, generator=self.generator, dtype=x1.dtype).to(x1.device)
        x, direction = path.state(x0, x1, t), path.velocity(x0, x1, t)
        own = self.policy.velocity(x, t, condition)
        with torch.no_grad():
            base = self.base.velocity(x, t, condition)
            worth = worth.to(x1).reshape(-1, *[1] * (x1.ndim - 1))
            target = self.target(direction, base, own.detach(), worth)
        return (own - target).float().square().mean()
