r"""Reward-weighted distillation: flow matching on candidates drawn with the weights of the tilt.

.. math:: \min_\theta \; \mathbb{E}_{x_1 \sim \rho_1} \big[\, w(x_1)\,
    \lvert b_\theta(I_t) - (x_1 - x_0) \rvert^2 \big],
    \qquad w = \frac{e^{\lambda r}}{\mathbb{E}\, e^{\lambda r}}

At each state the minimizer is E[w d | x_t] / E[w | x_t] with d = x1 - x0, the velocity of the
interpolant to the tilt: exact for any strength and any reward, which is only ever scored.

The weights are met by resampling: rows of a batch are drawn from a large pool of candidates with
probabilities in proportion to w. Given the pool, the gradient's mean is that of weighting uniform
rows, and its second moment is E[w g^2] in place of E[w^2 g^2], smaller by about the share of
candidates that are effective. A batch is then plain data from the tilt, so any rule that learns a
flow map learns a few-step one from it, off the diagonal too.
"""

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torchrl.objectives import LossModule

from alignflow.distillation import ESD, LSD, PSD, FlowMapLoss, UniformTimes
from alignflow.flow_map import FlowMap

from .pool import Pool
from .tuner import Tuner

__all__ = ["Weighted"]

CANDIDATE_STEPS = 8


class Weighted(Tuner):
    """Flow matching on the base's samples resampled by exp(strength r); any black box will do.

    Args:
        policy: The map being tuned.
        reward: Any reward.
        strength: lambda of the tilt.
        pool: Candidates held at a time; few effective ones are warned of.
        refresh_every: Batches between pools.
        candidate_steps: Jumps of the base that draw a candidate, 8 by default.
        data: Tilt this, anything that `pretrain` takes for data, and not the base's samples.
        rule: `PSD`, `LSD` or `ESD` off the diagonal.
        diagonal_fraction: Share of rows on the diagonal.
        times: Sampler of times.
        condition: One to tune for, or a tensor of them (C, ...). The tilt is of each condition's
            own distribution: weights are normalized among the candidates of one condition.
        base: The model that is tilted; a frozen copy of the policy by default.
        generator: Source of all randomness.
    """

    @dataclass
    class _AcceptedKeys(LossModule._AcceptedKeys):
        data: NestedKey = "data"
        condition: NestedKey = "condition"

    takes_levels = True

    def __init__(
        self,
        policy: FlowMap,
        reward: Any,
        strength: float,
        *,
        pool: int = 8192,
        refresh_every: int = 250,
        candidate_steps: int | None = None,
        data: Any = None,
        rule: PSD | LSD | ESD = PSD(),  # noqa: B008 (it has no state)
        diagonal_fraction: float = 0.75,
        times: UniformTimes | None = None,
        condition: Any = None,
        base: FlowMap | None = None,
        generator: torch.Generator | None = None,
    ):
        generator = generator or torch.Generator().manual_seed(0)
        if data is not None and (candidate_steps is not None or condition is not None):
            raise ValueError(
                "candidate_steps and condition would do nothing with data, which is not sampled "
                "and brings its own conditions"
            )
        super().__init__(
            policy,
            reward,
            strength,
            distillation=FlowMapLoss(
                policy, rule, diagonal_fraction=diagonal_fraction, times=times, generator=generator
            ),
            condition=condition,
            base=base,
            generator=generator,
        )
        self.pool = Pool(
            self.base,
            self.reward,
            strength,
            pool,
            refresh_every,
            candidate_steps or CANDIDATE_STEPS,
            generator,
            data,
            self.condition,
        )

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, and the share of the pool that is effective."""
        return ["loss_diagonal", "loss_map", "effective_share"]

    def sample_batch(self, n: int) -> TensorDict:
        """n rows of the tilt: `data` (n, *E) and perhaps `condition` (n, ...)."""
        batch, keys = self.pool.resample(n), self.tensor_keys
        batch.rename_key_("data", keys.data)
        if "condition" in batch:
            batch.rename_key_("condition", keys.condition)
        return batch

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of rows of the tilt: `data` (N, *E) and perhaps `condition` (N, ...)."""
        condition = tensordict.get(self.tensor_keys.condition, None)
        losses = self.distil(tensordict.get(self.tensor_keys.data), condition)
        return losses.set("effective_share", self.pool.share.clone())
