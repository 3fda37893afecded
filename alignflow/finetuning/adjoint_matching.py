r"""Adjoint matching: the optimal control of the memoryless SDE, by regression and not by backprop.

.. math:: a_1 = -\lambda \nabla r(x_1), \qquad
    a_k = \Big(\frac{\partial\, \mathrm{mean}_k(x_k)}{\partial x_k}\Big)^{\!\top} a_{k+1}, \qquad
    \min_\theta \sum_k w_k\, \Big\lvert b_\theta(x_k) - b(x_k) + \frac{f_k}{2 w_k} a_{k+1}
    \Big\rvert^2

The paths are the tuned model's, without a graph; the lean adjoint a goes back along them through
the base's steps, whose mean moves by f_k with the velocity. w_k is that of the path KL, so that the
optimum is that of `direct` with it: the tilt. In short steps this is the continuous loss
|(2/g)(b_theta - b) + g a|^2.

Source: Domingo-Enrich et al. 2024 (2409.08861).
"""

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives import LossModule

from alignflow.distillation import ESD, LSD, PSD, FlowMapLoss, UniformTimes
from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time
from alignflow.reward_module import RewardError

from .memoryless import MemorylessRollout, memoryless_step, velocity_factor
from .rollouts import Node
from .starts import sample_starts
from .tuner import Tuner

__all__ = ["AdjointMatching"]


class AdjointMatching(Tuner):
    """Regression on the lean adjoint of memoryless paths: reward gradients without backprop.

    Args:
        policy: The map being tuned.
        reward: A differentiable reward.
        strength: lambda of the tilt.
        rollout: The paths.
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
        rollout: MemorylessRollout | None = None,
        data: Any = None,
        rule: PSD | LSD | ESD = PSD(),  # noqa: B008 (it has no state)
        times: UniformTimes | None = None,
        condition: Any = None,
        base: FlowMap | None = None,
        generator: torch.Generator | None = None,
    ):
        generator = generator or torch.Generator().manual_seed(0)
        rollout = rollout or MemorylessRollout()
        if data is not None and rollout.start == "noise":
            raise ValueError("data would do nothing with a rollout that starts at noise")
        super().__init__(
            policy,
            reward,
            strength,
            distillation=FlowMapLoss(
                policy, rule, diagonal_fraction=0.0, times=times, generator=generator
            ),
            condition=condition,
            base=base,
            generator=generator,
        )
        self.rollout = rollout
        self._data = (data,)

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, and the mean reward."""
        return ["loss_adjoint", "loss_map", "reward"]

    def sample_batch(self, n: int) -> TensorDict:
        """n starts: `state` (n, *E), `time` (n,) and `condition` (n, ...)."""
        return sample_starts(self, n, self.rollout.start, *self._data)

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of starts: `state` (N, *E) at `time` (N,), and perhaps `condition` (N, ...)."""
        keys = self.tensor_keys
        state, time = tensordict.get(keys.state), tensordict.get(keys.time)
        condition = tensordict.get(keys.condition, None)
        with torch.no_grad():
            path = self.rollout(self.policy, state, time, condition, self.generator)
        reward, adjoint = self._end(path.endpoint, condition)
        ends = [*(node.time for node in path.nodes[1:]), torch.ones_like(time)]
        costs = []
        for node, end in zip(reversed(path.nodes), reversed(ends), strict=True):
            base, before = self._step_back(node, end, adjoint, condition)
            factor = velocity_factor(node.time, end) / (2 * node.weight)
            target = base - expand_time(factor, adjoint) * adjoint
            own = self.policy.velocity(node.state, node.time, condition)
            costs.append(node.weight * (own - target).square().flatten(1).sum(1))
            adjoint = before
        loss = torch.stack(costs).sum(0).mean() / state[0].numel()
        kept = self.distil(path.endpoint, condition)
        return TensorDict({"loss_adjoint": loss, **kept, "reward": reward.mean()})

    def _end(self, endpoint: Tensor, condition: Any) -> tuple[Tensor, Tensor]:
        """Rewards (N,) of endpoints, and the adjoint there, (N, *E)."""
        with torch.enable_grad():
            point = endpoint.detach().requires_grad_()
            reward = self.reward.score(point, condition, self.policy.decode)
            if not reward.requires_grad:
                raise RewardError(
                    f"reward {self.reward.name!r} says differentiable, but its answer carries no "
                    "graph"
                )
            (gradient,) = torch.autograd.grad(reward.sum(), point)
        return reward.detach(), -self.strength * gradient

    def _step_back(
        self, node: Node, end: Tensor, adjoint: Tensor, condition: Any
    ) -> tuple[Tensor, Tensor]:
        """The base's velocity at a node, and the adjoint (N, *E) taken back to it."""
        with torch.enable_grad():
            state = node.state.detach().requires_grad_()
            velocity = self.base.velocity(state, node.time, condition)
            mean, _ = memoryless_step(state, velocity, node.time, end)
            (before,) = torch.autograd.grad(mean, state, adjoint)
        return velocity.detach(), before
