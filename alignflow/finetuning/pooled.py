"""Tuners that learn from a pool of candidates of the base, scored once and held."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from tensordict import TensorDict
from tensordict.utils import NestedKey
from torchrl.objectives import LossModule

from alignflow.distillation import ESD, LSD, PSD, FlowMapLoss, UniformTimes
from alignflow.flow_map import FlowMap

from .pool import Pool
from .tuner import Tuner

__all__ = ["Pooled"]


class Pooled(Tuner):
    """What these tuners share: the pool, and a flow map's own loss on rows of it.

    Args:
        policy: The map being tuned.
        reward: A reward.
        strength: lambda of the tilt.
        pool: Candidates held at a time; few effective ones are warned of.
        refresh_every: Batches between pools.
        candidate_steps: Jumps of the base that draw a candidate.
        rule: `PSD`, `LSD` or `ESD` off the diagonal.
        diagonal_fraction: Share of rows on the diagonal.
        times: Sampler of times.
        condition: One to tune for, or a tensor of them (C, ...). The tilt is of each condition's
            own distribution: worths are relative to the candidates of one condition.
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
        candidate_steps: int = 8,
        rule: PSD | LSD | ESD = PSD(),  # noqa: B008 (it has no state)
        diagonal_fraction: float = 0.75,
        times: UniformTimes | None = None,
        condition: Any = None,
        base: FlowMap | None = None,
        generator: torch.Generator | None = None,
    ):
        generator = generator or torch.Generator().manual_seed(0)
        distillation = FlowMapLoss(
            policy,
            rule,
            diagonal_fraction=diagonal_fraction,
            times=times,
            regression=policy.prediction.robust,
            generator=generator,
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

    def under_keys(self, batch: TensorDict) -> TensorDict:
        """A batch under the names that `set_keys` left."""
        for field in fields(self._AcceptedKeys):
            if field.name in batch:
                batch.rename_key_(field.name, getattr(self.tensor_keys, field.name))
        return batch
