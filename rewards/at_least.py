r"""At least: whether another reward reaches a threshold.

.. math:: r(x) = 1[r_0(x) \ge \theta]
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from alignflow import checks
from alignflow.reward_module import Reward, as_reward

__all__ = ["AtLeast"]


class AtLeast(Reward):
    """Whether a reward is at least a threshold, 0 or 1; a black box.

    Args:
        reward: A reward, or a callable as a black box.
        threshold: In the reward's unit.
        name: What errors and reports call it; by default <reward>_at_least_<threshold>.
    """

    def __init__(
        self, reward: Reward | Callable[..., Any], threshold: float, name: str | None = None
    ):
        reward = as_reward(reward)
        threshold = checks.finite("threshold", threshold)
        named = f"{reward.name}_at_least_{threshold:g}" if name is None else name
        super().__init__(_Reaches(reward, threshold), named, space=reward.space)


class _Reaches(nn.Module):
    """1 for those of N samples whose reward is at least the threshold, 0 for the others."""

    def __init__(self, reward: Reward, threshold: float):
        super().__init__()
        self.reward, self.threshold = reward, threshold

    def forward(self, endpoint: Any, condition: Any = None) -> Tensor:
        return (self.reward(endpoint, condition) >= self.threshold).float()
