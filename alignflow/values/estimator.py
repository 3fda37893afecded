"""What value estimators share: scores of endpoint draws, which may come in parts.

The memory of a gradient is that of its largest part; the result is the same.
"""

from dataclasses import dataclass, field

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow.flow_map import FlowMap
from alignflow.graph import Node
from alignflow.reward_module import Reward, RewardError
from alignflow.tilt import Tilt

from .tilted_value import SoftmaxMean, score_endpoint_terms, tilted_value

__all__ = ["Estimator", "Running", "Value", "no_gradient"]


@dataclass
class Running:
    """Sums over the draws that an estimator has seen so far."""

    rewards: list[Tensor] = field(default_factory=list)  # (B, k) of each part
    log_weights: list[Tensor] = field(default_factory=list)
    terms: dict[str, list[Tensor]] = field(default_factory=dict)
    tilted: SoftmaxMean = field(default_factory=SoftmaxMean)
    base: SoftmaxMean = field(default_factory=SoftmaxMean)
    gradient: Tensor | None = None  # (B, *E), of draws that came all at once


class Estimator(Node):
    """A node that reads endpoints and writes an estimate of the value or its gradient.

    Args:
        model: Decodes the endpoints.
        tilt: Its reward scores them.

    Attributes:
        least_draws: How many draws it needs.

    Raises:
        ValueError: If it needs the gradient of a black box.
    """

    reads = ("endpoint",)
    optional = ("condition", "endpoint_log_weight")
    least_draws = 1

    def __init__(self, model: FlowMap, tilt: Tilt):
        super().__init__()
        if self.needs_reward_gradient and not tilt.reward.differentiable:
            raise ValueError(f"reward {tilt.reward.name!r} is a black box: it has no gradient")
        self.model = model
        self.tilt = tilt

    def forward(self, tensordict):
        running = Running()
        self.take(running, tensordict, alone=True)
        return self.finish(running, tensordict)

    def take(self, running: Running, tensordict: TensorDictBase, alone: bool) -> None:
        """Take in the draws of a TensorDict; `alone` if there are no others."""
        self.score(running, tensordict)

    def finish(self, running: Running, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the estimate of all draws."""
        for name, term in running.terms.items():
            tensordict.set(f"endpoint_reward_{name}", torch.cat(term, dim=1))
        rewards = torch.cat(running.rewards, dim=1)
        log_weight = torch.cat(running.log_weights, dim=1) if running.log_weights else None
        value = tilted_value(rewards, self.tilt, log_weight)
        return self.write(tensordict, endpoint_reward=rewards, value=value)

    def score(self, running: Running, tensordict: TensorDictBase) -> tuple[Tensor, Tensor | None]:
        """Rewards (B, k) of the draws and their log-weights, with a graph where there is one."""
        endpoint, condition = self.read(tensordict, "endpoint"), self.read(tensordict, "condition")
        given = endpoint, condition, self.model.decode
        rewards, terms = score_endpoint_terms(self.tilt.reward, *given)
        running.rewards.append(rewards.detach())
        for name, term in terms.items():
            running.terms.setdefault(name, []).append(term)
        log_weight = self.read(tensordict, "endpoint_log_weight")
        if log_weight is not None:
            running.log_weights.append(log_weight.detach())
        return rewards, log_weight

    def extra_repr(self) -> str:
        return f"{self.tilt.reward.name}, strength={self.tilt.strength:g}"


class Value(Estimator):
    """V_t from the draws, without a gradient, of any reward."""

    writes = ("endpoint_reward", "value")


def no_gradient(reward: Reward) -> RewardError:
    """The error of a reward that is declared differentiable and is not."""
    return RewardError(
        f"reward {reward.name!r} says differentiable, but no gradient reaches the "
        "state (PIL, NumPy or .detach() in the path?)"
    )
