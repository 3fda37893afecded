"""What value estimators share: scores of endpoint draws, which may come in parts.

The memory of a gradient is that of its largest part; the result is the same.
"""

from dataclasses import dataclass, field

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.cost import Cost
from alignflow.flow_map import FlowMap
from alignflow.graph import Node
from alignflow.posteriors import Posterior
from alignflow.reward_module import Reward, RewardError

from .tilt import SoftmaxMean, score_endpoint_terms, tilted_value

__all__ = ["Estimator", "Running", "Value", "no_gradient"]


@dataclass
class Running:
    """What an estimator knows of the draws that it has taken in."""

    rewards: list[Tensor] = field(default_factory=list)  # (B, k) of each part
    log_weights: list[Tensor] = field(default_factory=list)
    terms: dict[str, list[Tensor]] = field(default_factory=dict)
    tilted: SoftmaxMean = field(default_factory=SoftmaxMean)
    base: SoftmaxMean = field(default_factory=SoftmaxMean)
    gradient: Tensor | None = None  # (B, *E), of draws that came all at once


class Estimator(Node):
    """A node that reads endpoints and writes what they say of the value.

    Args:
        model: Decodes the endpoints.
        reward: Scores them.
        strength: lambda of the tilt, per unit of reward.

    Attributes:
        least_draws: Below this many draws it has nothing to say.

    Raises:
        ValueError: If it needs the gradient of a black box.
    """

    reads = ("endpoint",)
    optional = ("condition", "endpoint_log_weight")
    least_draws = 1

    def __init__(self, model: FlowMap, reward: Reward, strength: float):
        super().__init__()
        if self.climbs and not reward.differentiable:
            raise ValueError(f"reward {reward.name!r} is a black box: it has no gradient to follow")
        self.model = model
        self.reward = reward
        self.strength = checks.nonnegative("strength", strength)

    @property
    def cost(self) -> Cost:
        return Cost(reward_calls=1)

    def backwards(self, posterior: Posterior, parts: list[int]) -> int:
        """Forwards of a row that a gradient comes back through, for draws in such parts."""
        return 0

    def forward(self, tensordict):
        running = Running()
        self.take(running, tensordict, alone=True)
        return self.finish(running, tensordict)

    def take(self, running: Running, tensordict: TensorDictBase, alone: bool) -> None:
        """Take in the draws of a TensorDict; `alone` if there are no others."""
        self.score(running, tensordict)

    def finish(self, running: Running, tensordict: TensorDictBase) -> TensorDictBase:
        """Write what all draws say."""
        for name, term in running.terms.items():
            tensordict.set(f"endpoint_reward_{name}", torch.cat(term, dim=1))
        rewards = torch.cat(running.rewards, dim=1)
        log_weight = torch.cat(running.log_weights, dim=1) if running.log_weights else None
        value = tilted_value(rewards, self.strength, log_weight)
        return self.write(tensordict, endpoint_reward=rewards, value=value)

    def score(self, running: Running, tensordict: TensorDictBase) -> tuple[Tensor, Tensor | None]:
        """Rewards (B, k) of the draws and their log-weights, with a graph where there is one."""
        endpoint, condition = self.read(tensordict, "endpoint"), self.read(tensordict, "condition")
        given = endpoint, condition, self.model.decode
        rewards, terms = score_endpoint_terms(self.reward, *given)
        running.rewards.append(rewards.detach())
        for name, term in terms.items():
            running.terms.setdefault(name, []).append(term)
        log_weight = self.read(tensordict, "endpoint_log_weight")
        if log_weight is not None:
            running.log_weights.append(log_weight.detach())
        return rewards, log_weight

    def extra_repr(self) -> str:
        return f"{self.reward.name}, strength={self.strength:g}"


class Value(Estimator):
    """V_t from the draws, without a gradient: any reward will do."""

    writes = ("endpoint_reward", "value")


def no_gradient(reward: Reward) -> RewardError:
    """The error of a reward that is declared differentiable and is not."""
    return RewardError(
        f"reward {reward.name!r} says differentiable, but no gradient reaches the "
        "state (PIL, NumPy or .detach() in the path?)"
    )
