r"""The tilt: what alignment aims at, whether a frozen model is steered or a model is tuned.

.. math:: \rho_{r,\lambda}(x) \propto e^{\lambda r(x)} \rho_1(x)

rho_1 is the distribution of the base model. A steerer samples the tilt, a tuner moves a model to
it, a closed-form target knows it, and a report measures how far samples are from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignflow import checks
from alignflow.reward_module import Reward, as_reward

__all__ = ["DefaultStrength", "Tilt", "as_tilt", "check_strength"]


@dataclass(frozen=True, eq=False)
class Tilt:
    """A reward and a strength: the target exp(strength r) times the base's distribution.

    Args:
        reward: A reward, or any callable as a black box.
        strength: lambda, per unit of reward, not negative.

    Raises:
        TypeError: If the reward is not callable.
        ValueError: If the strength is negative or not finite.
    """

    reward: Reward
    strength: float = 1.0

    def __init__(self, reward: Reward | Callable[..., Any], strength: float = 1.0):
        object.__setattr__(self, "reward", as_reward(reward))
        object.__setattr__(self, "strength", check_strength(strength))

    def log_weight(self, rewards: Tensor) -> Tensor:
        """lambda r, of any shape; a reward of -inf (a dropped sample) stays -inf, at 0 too."""
        return torch.where(rewards == -torch.inf, rewards, self.strength * rewards)

    def score(
        self,
        states: Tensor,
        condition: Any = None,
        decode: Callable[[Tensor], Any] = lambda x: x,
    ) -> tuple[Tensor, Tensor]:
        """Rewards and log-weights, (N,) each, of states (N, *E); see `Reward.score`."""
        rewards = self.reward.score(states, condition, decode)
        return rewards, self.log_weight(rewards)

    def gradient(
        self,
        states: Tensor,
        condition: Any = None,
        decode: Callable[[Tensor], Any] = lambda x: x,
    ) -> tuple[Tensor, Tensor]:
        """Rewards (N,), and the gradient of the log-weight in the states, (N, *E), without a graph.

        A dropped sample has a gradient of 0.

        Args:
            states: (N, *E).
            condition: Passed on if the reward takes one.
            decode: `policy.decode`.
        """
        with torch.enable_grad():
            point = states.detach().requires_grad_()
            rewards, log_weight = self.score(point, condition, decode)
            finite = log_weight.masked_fill(log_weight == -torch.inf, 0.0)
            (gradient,) = torch.autograd.grad(finite.sum(), point)
        return rewards.detach(), gradient

    def scaled(self, fraction: float) -> "Tilt":
        """The tilt by the same reward at a fraction of the strength."""
        return Tilt(self.reward, fraction * self.strength)

    def with_reward(self, reward: Reward) -> "Tilt":
        """The tilt at the same strength by another reward, such as one that counts its calls."""
        return Tilt(reward, self.strength)


class DefaultStrength(float):
    """The default of an argument `strength`: a number by which one sees that none was given."""


def as_tilt(reward: "Tilt | Reward | Callable[..., Any]", strength: float) -> Tilt:
    """A tilt as it is, or that of a reward and a strength.

    Args:
        reward: A tilt, a reward, or any callable as a black box.
        strength: lambda of a reward; beside a tilt, which has its own, the default only.

    Raises:
        TypeError: If the reward is not callable.
        ValueError: If a strength is given beside a tilt, or is negative or not finite.
    """
    if not isinstance(reward, Tilt):
        return Tilt(reward, strength)
    if not isinstance(strength, DefaultStrength):
        raise ValueError(
            f"strength={checks.shown(strength)} beside a tilt of strength {reward.strength:g}: "
            "say it once, in the Tilt"
        )
    return reward


def check_strength(strength: float) -> float:
    """The strength of a tilt as a number.

    Raises:
        ValueError: If it is negative or not finite.
    """
    try:
        return checks.nonnegative("strength", strength)
    except ValueError as error:
        raise ValueError(
            f"{error}: rewards are maximized, so to seek low ones negate the reward"
        ) from None
