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

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time

from .memoryless import MemorylessRollout, memoryless_step, velocity_factor
from .rollout_tuner import RolloutTuner
from .rollouts import Node, Path

__all__ = ["AdjointMatching", "StepBack", "walk_back"]


class AdjointMatching(RolloutTuner):
    """Regression on the lean adjoint of memoryless paths: reward gradients without backprop.

    Args:
        rollout: The paths.
    """

    def __init__(
        self,
        policy: FlowMap,
        reward: Any,
        strength: float,
        *,
        rollout: MemorylessRollout | None = None,
        **options,
    ):
        rollout = MemorylessRollout() if rollout is None else rollout
        checks.instance("rollout", rollout, MemorylessRollout, "a MemorylessRollout(...)")
        super().__init__(policy, reward, strength, rollout=rollout, **options)

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, and the mean reward."""
        return ["loss_adjoint", "loss_map", "reward"]

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of starts: `state` (N, *E) at `time` (N,), and perhaps `condition` (N, ...)."""
        keys = self.tensor_keys
        state, time = tensordict.get(keys.state), tensordict.get(keys.time)
        condition = tensordict.get(keys.condition, None)
        with torch.no_grad():
            path = self.rollout(self.policy, state, time, condition, self.generator)
        reward, adjoint = self._end(path.endpoint, condition)
        costs = []
        for node, end, velocity, at_end, _ in walk_back(self.base, path, adjoint, condition):
            factor = velocity_factor(node.time, end) / (2 * node.weight)
            target = velocity - expand_time(factor, at_end) * at_end
            own = self.policy.velocity(node.state, node.time, condition)
            costs.append(node.weight * (own - target).square().flatten(1).sum(1))
        loss = torch.stack(costs).sum(0).mean() / state[0].numel()
        kept = self.distil(path.endpoint, condition)
        return TensorDict({"loss_adjoint": loss, **kept, "reward": reward.mean()})

    def _end(self, endpoint: Tensor, condition: Any) -> tuple[Tensor, Tensor]:
        """Rewards (N,) of endpoints, and the adjoint there, (N, *E)."""
        with torch.enable_grad():
            point = endpoint.detach().requires_grad_()
            reward = self.reward.score(point, condition, self.policy.decode)
            self.check_graph(reward, point)
            (gradient,) = torch.autograd.grad(reward.sum(), point)
        return reward.detach(), -self.strength * gradient


class StepBack(NamedTuple):
    """A step of a path, seen from its end.

    Args:
        node: Where it starts.
        end: When it ends, (N,).
        velocity: The base's at the node, (N, *E).
        at_end: The adjoint at the end, (N, *E).
        at_node: And at the node.
    """

    node: Node
    end: Tensor
    velocity: Tensor
    at_end: Tensor
    at_node: Tensor


def walk_back(
    base: FlowMap, path: Path, adjoint: Tensor, condition: Any = None
) -> Iterator[StepBack]:
    """The steps of a memoryless path from the last to the first, with the lean adjoint at each.

    Args:
        base: Whose steps the adjoint goes back through.
        path: To time 1.
        adjoint: There, (N, *E).
        condition: (N, ...), or None.
    """
    end = torch.ones_like(path.nodes[-1].time)
    for node in reversed(path.nodes):
        with torch.enable_grad():
            state = node.state.detach().requires_grad_()
            velocity = base.velocity(state, node.time, condition)
            mean, _ = memoryless_step(state, velocity, node.time, end)
            (before,) = torch.autograd.grad(mean, state, adjoint)
        yield StepBack(node, end, velocity.detach(), adjoint, before)
        adjoint, end = before, node.time
