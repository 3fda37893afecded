r"""Value estimators: what the tilt's value, or its gradient, is at a state, from K endpoint draws.

.. math::
    V_t(x) = \log E[e^{\lambda r(x_1)} | x_t = x]
    \approx \mathrm{logsumexp}_i(\lambda r(z_i) + l_i) - \mathrm{logsumexp}_i(l_i)

z_i are the draws of a posterior, l_i their log-weights (0 for an unweighted one), lambda the
strength. The gradient of a point stands for grad V_t and is not it.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow.conditions import repeat_rows
from alignflow.cost import Cost
from alignflow.flow_map import FlowMap
from alignflow.graph import Node
from alignflow.reward_module import Reward, RewardError

__all__ = ["PointGradient", "Value", "log_tilt", "score_endpoints", "tilted_value"]


def log_tilt(reward: Tensor, strength: float) -> Tensor:
    """lambda r, where a reward of -inf (a dropped sample) stays -inf under any strength."""
    return torch.where(reward == -torch.inf, reward, strength * reward)


def tilted_value(
    endpoint_reward: Tensor, strength: float, endpoint_log_weight: Tensor | None = None
) -> Tensor:
    """Value V_t (B,) from rewards (B, K) of endpoint draws and their log-weights (B, K)."""
    exponent = log_tilt(endpoint_reward, strength)
    if endpoint_log_weight is None:
        return exponent.logsumexp(-1) - math.log(exponent.shape[-1])
    total = (exponent + endpoint_log_weight).logsumexp(-1)
    return total - endpoint_log_weight.logsumexp(-1)


def score_endpoints(
    reward: Reward, endpoint: Tensor, condition: Any, decode: Callable[[Tensor], Any]
) -> Tensor:
    """Rewards (B, K) of endpoints (B, K, *E), scored as one flat batch."""
    rows, draws = endpoint.shape[:2]
    scores = reward.score(endpoint.flatten(0, 1), repeat_rows(condition, draws), decode)
    return scores.reshape(rows, draws)


class _Estimator(Node):
    """What value estimators share: a reward of decoded endpoints, and a strength."""

    reads = ("endpoint",)
    optional = ("condition", "endpoint_log_weight")

    def __init__(self, model: FlowMap, reward: Reward, strength: float):
        super().__init__()
        self.model = model
        self.reward = reward
        self.strength = strength

    def score(self, tensordict: TensorDictBase) -> Tensor:
        """Rewards (B, K), kept as `endpoint_reward`; a composite's terms by name beside it."""
        endpoint, condition = self.read(tensordict, "endpoint"), self.read(tensordict, "condition")
        rewards = score_endpoints(self.reward, endpoint, condition, self.model.decode)
        for name, term in getattr(self.reward, "last_terms", {}).items():
            tensordict.set(f"endpoint_reward_{name}", term.reshape(rewards.shape))
        self.write(tensordict, endpoint_reward=rewards)
        return rewards

    def extra_repr(self) -> str:
        return f"{self.reward.name}, strength={self.strength:g}"


class Value(_Estimator):
    """V_t from the draws, without a gradient: any reward will do.

    Args:
        model: Decodes the endpoints.
        reward: Scores them.
        strength: lambda of the tilt, per unit of reward.
    """

    writes = ("endpoint_reward", "value")

    @property
    def cost(self) -> Cost:
        return Cost(reward_calls=1)

    def forward(self, tensordict):
        rewards = self.score(tensordict)
        log_weight = self.read(tensordict, "endpoint_log_weight")
        return self.write(tensordict, value=tilted_value(rewards, self.strength, log_weight))


class PointGradient(_Estimator):
    """lambda grad_x r(z(x)) of one draw z, back through decoding, reward and posterior.

    The state must require a gradient before the posterior runs; a steerer sees to that. A draw of
    an invalid reward that is kept (on_invalid "drop" or "worst") has no gradient: it counts as 0.

    Args:
        model: Decodes the endpoints.
        reward: A differentiable one.
        strength: lambda of the tilt, per unit of reward.

    Raises:
        ValueError: If the reward is a black box.
    """

    reads = ("state", "endpoint")
    writes = ("endpoint_reward", "value", "value_gradient")
    differentiates = True

    def __init__(self, model: FlowMap, reward: Reward, strength: float):
        if not reward.differentiable:
            raise ValueError(f"reward {reward.name!r} is a black box: it has no gradient to follow")
        super().__init__(model, reward, strength)

    @property
    def cost(self) -> Cost:
        return Cost(reward_calls=1, reward_vjps=1)

    def forward(self, tensordict):
        state, endpoint = self.read(tensordict, "state"), self.read(tensordict, "endpoint")
        if endpoint.shape[1] != 1:
            raise ValueError(f"{self!r} takes one draw a row, got {endpoint.shape[1]}")
        if not (state.requires_grad and endpoint.requires_grad):
            raise ValueError(f"{self!r} needs a state that requires grad before the posterior runs")
        rewards = self.score(tensordict)
        gradient = self.strength * self._reward_gradient(rewards, state)
        value = tilted_value(rewards, self.strength)
        return self.write(tensordict, value=value, value_gradient=gradient)

    def _reward_gradient(self, rewards: Tensor, state: Tensor) -> Tensor:
        gradient = None
        if rewards.requires_grad:
            (gradient,) = torch.autograd.grad(rewards.sum(), state, allow_unused=True)
        if gradient is None:
            raise RewardError(
                f"reward {self.reward.name!r} says differentiable, but no gradient reaches the "
                "state (PIL, NumPy or .detach() in the path?)"
            )
        invalid = ~torch.isfinite(gradient).flatten(1).all(1)
        if not invalid.any():
            return gradient
        if self.reward.on_invalid == "raise":
            shown = ", ".join(map(str, invalid.nonzero().flatten().tolist()[:8]))
            raise RewardError(
                f"the gradient of reward {self.reward.name!r} is not finite for samples {shown}"
                f" of {len(gradient)}"
            )
        return gradient.masked_fill(invalid.reshape(-1, *[1] * (gradient.ndim - 1)), 0.0)
