"""Tuners that follow the reward's gradient back along rollouts, from noise or from the path."""

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives import LossModule

from alignflow import checks
from alignflow.distillation import ESD, LSD, PSD, FlowMapLoss, UniformTimes, batches
from alignflow.flow_map import FlowMap
from alignflow.interpolants import Linear
from alignflow.reward_module import RewardError

from .regularizers import Rollout
from .tuner import Tuner

__all__ = ["RolloutTuner"]

BASE_STEPS = 8


class RolloutTuner(Tuner):
    """What these tuners share: where rollouts start, and what keeps the policy one flow map.

    Args:
        policy: The map being tuned.
        reward: A differentiable reward.
        strength: lambda of the tilt.
        rollout: The way from a start to its endpoint.
        data: What the path that a rollout starts on leads to, in place of the base's samples.
        rule: `PSD`, `LSD` or `ESD`, which keeps the jumps.
        times: Sampler of their times.
        condition: One to tune for, or a tensor of them (C, ...), drawn evenly.
        base: The model that is tilted; a frozen copy of the policy by default.
        generator: Source of all randomness.
    """

    @dataclass
    class _AcceptedKeys(LossModule._AcceptedKeys):
        state: NestedKey = "state"
        time: NestedKey = "time"
        condition: NestedKey = "condition"

    takes_black_box = False

    def __init__(
        self,
        policy: FlowMap,
        reward: Any,
        strength: float,
        *,
        rollout: Rollout,
        data: Any = None,
        rule: PSD | LSD | ESD = PSD(),  # noqa: B008 (it has no state)
        times: UniformTimes | None = None,
        condition: Any = None,
        base: FlowMap | None = None,
        generator: torch.Generator | None = None,
    ):
        parts = ("start", "jumps", "trains_velocity", "__call__")
        checks.offers(
            "rollout", rollout, parts, "MapRollout(), MemorylessRollout() or ODERollout()"
        )
        generator = generator or torch.Generator().manual_seed(0)
        if data is not None and rollout.start == "noise":
            raise ValueError("data would do nothing with a rollout that starts at noise")
        diagonal = 0.0 if rollout.trains_velocity else 0.5
        super().__init__(
            policy,
            reward,
            strength,
            distillation=FlowMapLoss(
                policy,
                rule,
                diagonal_fraction=diagonal,
                times=times,
                regression=policy.prediction.robust,
                generator=generator,
            ),
            condition=condition,
            base=base,
            generator=generator,
        )
        self.rollout = rollout
        self._followed = False
        # in a tuple, so that nothing of it becomes part of this module
        self._data = (data,)

    @torch.no_grad()
    def sample_batch(self, n: int) -> TensorDict:
        """n starts: `state` (n, *E), `time` (n,) and `condition` (n, ...)."""
        keys, condition = self.tensor_keys, self.draw_condition(n)
        state = self.base.noise(n, self.generator)
        time = state.new_zeros(n)
        if self.rollout.start == "path":
            endpoint, condition = self._endpoints(n, condition)
            time = torch.rand(n, generator=self.generator).to(state)
            state = Linear().state(state, endpoint.to(state), time)
        batch = TensorDict({keys.state: state, keys.time: time}, batch_size=n)
        return batch if condition is None else batch.set(keys.condition, condition)

    def check_graph(self, reward: Tensor, endpoint: Tensor) -> None:
        """Refuse rewards (N,) without a graph back to their endpoints, whatever was declared.

        Of a graph only the first is followed, as it costs a way back through the reward.
        """
        if not reward.requires_grad:
            raise RewardError(
                f"reward {self.reward.name!r} says differentiable, but its answer carries no graph"
            )
        if self._followed:
            return
        found = torch.autograd.grad(reward.sum(), endpoint, retain_graph=True, allow_unused=True)
        if found[0] is None:
            raise RewardError(
                f"reward {self.reward.name!r} says differentiable, but its answer does not depend "
                "on the sample: no gradient reaches it"
            )
        self._followed = True

    def _endpoints(self, n: int, condition: Any) -> tuple[Tensor, Any]:
        (data,) = self._data
        if data is None:
            sampled = self.base.sample(n, BASE_STEPS, condition, generator=self.generator)
            return sampled, condition
        batch = batches(data, n, self.base)(self.generator)
        return batch.get("data"), batch.get("condition", condition)
