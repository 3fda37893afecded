"""The reward interface: any callable from what people see to one number a sample, maximized."""

from .adapters import from_scores
from .check import RewardReport, check_reward
from .composite import Sum
from .interface import NotFiniteError, Reward, RewardError, as_reward, copied, reward

__all__ = [
    "NotFiniteError",
    "Reward",
    "RewardError",
    "RewardReport",
    "Sum",
    "as_reward",
    "check_reward",
    "from_scores",
    "copied",
    "reward",
]
