"""What tuners share that backpropagate the reward through rollouts, from noise or the path."""

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives import LossModule

from alignflow import checks
from alignflow.conditions import as_given
from alignflow.data import batches
from alignflow.draws import uniform
from alignflow.finetuning.problem import Problem
from alignflow.finetuning.tuner import Method, Tuner
from alignflow.interpolants import Linear
from alignflow.modules import set_unregistered
from alignflow.reward_module import RewardError
from alignflow.settings import option

from .regularizers import Rollout

__all__ = ["RolloutMethod", "RolloutTuner"]

BASE_STEPS = 8
PARTS = ("start", "jumps", "trains_velocity", "__call__")


@dataclass(frozen=True, kw_only=True)
class RolloutMethod(Method):
    """Settings of a tuner that differentiates the reward."""

    takes_black_box = False

    data: Any = option(
        None, "what the path that a rollout starts on leads to, in place of the base's samples"
    )


class RolloutTuner(Tuner):
    """What these tuners share: where rollouts start, and what keeps the policy one flow map.

    Args:
        problem: What is tuned, by a differentiable reward.
        method: How.
        rollout: From a start to its endpoint.
    """

    @dataclass
    class _AcceptedKeys(LossModule._AcceptedKeys):
        state: NestedKey = "state"
        time: NestedKey = "time"
        condition: NestedKey = "condition"

    data: Any

    def __init__(self, problem: Problem, method: RolloutMethod, rollout: Rollout):
        wanted = "MapRollout(), MemorylessRollout() or ODERollout()"
        checks.offers("rollout", rollout, PARTS, wanted)
        if method.data is not None and rollout.start == "noise":
            raise ValueError("data would do nothing with a rollout that starts at noise")
        fraction = 0.0 if rollout.trains_velocity else 0.5
        super().__init__(problem, method, diagonal_fraction=fraction)
        set_unregistered(self, data=method.data)
        self.rollout = rollout
        self._followed = False

    @torch.no_grad()
    def sample_batch(self, n: int) -> TensorDict:
        """n starts: `state` (n, *E), `time` (n,) and `condition` (n, ...)."""
        condition = self.draw_condition(n)
        state = self.base.noise(n, self.generator)
        time = state.new_zeros(n)
        if self.rollout.start == "path":
            endpoint, condition = self._endpoints(n, condition)
            time = uniform((n,), self.generator, device=state.device).to(state)
            state = Linear().state(state, endpoint.to(state), time)
        batch = TensorDict({"state": state, "time": time}, batch_size=n)
        if condition is not None:
            batch["condition"] = condition
        return self.renamed(batch)

    def check_graph(self, reward: Tensor, endpoint: Tensor) -> None:
        """Refuse rewards (N,) without a graph back to their endpoints, whatever was declared.

        Only the first graph is followed, which costs a backward pass through the reward.
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
        if self.data is None:
            sampled = self.base.sample(n, BASE_STEPS, condition, generator=self.generator)
            return sampled, condition
        batch = batches(self.data, n, self.base)(self.generator)
        return batch.get("data"), as_given(batch.get("condition", condition))
