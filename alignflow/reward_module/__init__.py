"""The reward interface: any callable from what people see to one number a sample, maximized."""

from .adapters import from_scores
from .check import RewardReport, check_reward
from .composite import Sum
from .copies import copied
from .decorator import as_reward, reward
from .interface import NotFiniteError, Reward, RewardError

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
