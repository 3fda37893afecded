r"""Adjoint matching: the optimal control of the memoryless SDE, by regression and not by backprop.

.. math:: a_1 = -\lambda \nabla r(x_1), \qquad
    a_k = \Big(\frac{\partial\, \mathrm{mean}_k(x_k)}{\partial x_k}\Big)^{\!\top} a_{k+1}, \qquad
    \min_\theta \sum_k w_k\, \Big\lvert b_\theta(x_k) - b(x_k) + \frac{f_k}{2 w_k} a_{k+1}
    \Big\rvert^2

The paths are the tuned model's, without a graph; the lean adjoint a is backpropagated along them
through the base's steps, whose mean moves by f_k with the velocity. w_k is that of the path KL, so
that the optimum is that of `direct` with it: the tilt. In short steps this is the continuous loss
|(2/g)(b_theta - b) + g a|^2.

With the noise eps_k of a step there is a target of values too (`path_values`), and the two may be
mixed. They have one mean where the model is the base and where it is the tilt, so that the fixed
point is the same in any fraction.

Sources: Domingo-Enrich et al. 2024 (2409.08861); Reverse Flow Matching (2601.08136) for the
mixture.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.finetuning.mixed import MixedEstimator, as_mixed, fraction_of
from alignflow.finetuning.problem import Problem
from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time
from alignflow.settings import option
from alignflow.transitions.memoryless import memoryless_step

from .memoryless import MemorylessRollout, velocity_factor
from .path_values import PathValues
from .paths import Node, Path
from .rollout_tuner import RolloutMethod, RolloutTuner

__all__ = ["AdjointMatching", "BackwardStep", "backward_steps"]


def _memoryless(name: str, value: Any) -> MemorylessRollout:
    if value is None:
        return MemorylessRollout()
    return checks.instance(name, value, MemorylessRollout, "a MemorylessRollout(...)")


def _value(name: str, value: Any) -> str | MixedEstimator:
    return as_mixed(name, value, ("gradient",))


@dataclass(frozen=True, kw_only=True)
class AdjointMatching(RolloutMethod):
    """Regression on the lean adjoint of memoryless paths: reward gradients without backprop."""

    rollout: MemorylessRollout = option(None, "the paths; None is MemorylessRollout()", _memoryless)
    value: str | MixedEstimator = option(
        "gradient",
        "gradient, the lean adjoint; or MixedEstimator(), which mixes it with the rewards of paths "
        "in the fraction of least variance",
        _value,
    )

    def bind(self, problem: Problem) -> "AdjointMatchingTuner":
        return AdjointMatchingTuner(problem, self)


class AdjointMatchingTuner(RolloutTuner):
    """The loss of `AdjointMatching`."""

    def __init__(self, problem: Problem, method: AdjointMatching):
        super().__init__(problem, method, method.rollout)
        self.fraction = fraction_of(method.value, self.base.device)
        own = method.rollout.data_std
        self.data_std = problem.policy.data_std if own is None else own

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, the mean reward, and the mean fraction of the gradient where it is mixed."""
        fraction = [] if self.fraction is None else ["gradient_fraction"]
        return ["loss_adjoint", "loss_map", "reward", *fraction]

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of starts: `state` (N, *E) at `time` (N,), and perhaps `condition` (N, ...)."""
        state, time = self.read(tensordict, "state"), self.read(tensordict, "time")
        condition = self.read(tensordict, "condition")
        with torch.no_grad():
            path = self.rollout(self.policy, state, time, condition, self.generator)
        reward, log_weight, adjoint = self._end(path.endpoint, condition)
        values = None if self.fraction is None else PathValues(log_weight, self.data_std)
        costs = []
        for node, end, velocity, at_end, _ in backward_steps(self.base, path, adjoint, condition):
            factor = velocity_factor(node.time, end) / (2 * node.weight)
            target = velocity - expand_time(factor, at_end) * at_end
            if values is not None:
                target = self._mixed(target, values.before(node, end, velocity), node)
            model = self.policy.velocity(node.state, node.time, condition)
            costs.append(node.weight * (model - target).square().flatten(1).sum(1))
        loss = torch.stack(costs).sum(0).mean() / state[0].numel()
        consistency = self.distil(path.endpoint, condition)
        losses = {"loss_adjoint": loss, **consistency, "reward": reward.mean()}
        if self.fraction is not None:
            losses["gradient_fraction"] = self.fraction.values.mean()
        return TensorDict(losses)

    def _mixed(self, by_gradient: Tensor, by_value: Tensor | None, node: Node) -> Tensor:
        if by_value is None or self.fraction is None:
            return by_gradient
        return self.fraction.mixed(node.time, by_value, by_gradient, node.velocity)

    def _end(self, endpoint: Tensor, condition: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Rewards (N,) of endpoints, their log-weights (N,), and the adjoint there, (N, *E)."""
        with torch.enable_grad():
            point = endpoint.detach().requires_grad_()
            reward, log_weight = self.tilt.score(point, condition, self.policy.decode)
            self.check_graph(reward, point)
            (gradient,) = torch.autograd.grad(log_weight.sum(), point)
        return reward.detach(), log_weight.detach(), -gradient


class BackwardStep(NamedTuple):
    """A step of a path, in the backward pass of the adjoint.

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


def backward_steps(
    base: FlowMap, path: Path, adjoint: Tensor, condition: Any = None
) -> Iterator[BackwardStep]:
    """The steps of a memoryless path from the last to the first, with the lean adjoint at each.

    Args:
        base: Through whose steps the adjoint is backpropagated.
        path: To time 1.
        adjoint: There, (N, *E).
        condition: (N, ...), or None.
    """
    end = torch.ones_like(path.nodes[-1].time)
    for node in reversed(path.nodes):
        with torch.enable_grad():
            state = node.state.detach().requires_grad_()
            velocity = base.velocity(state, node.time, condition)
            # the data's standard deviation does not enter the mean
            mean, _ = memoryless_step(state, velocity, node.time, end, 0.0)
            (before,) = torch.autograd.grad(mean, state, adjoint)
        yield BackwardStep(node, end, velocity.detach(), adjoint, before)
        adjoint, end = before, node.time
