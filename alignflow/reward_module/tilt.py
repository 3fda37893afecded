"""What a reward is worth under the tilt of a strength."""

import torch
from torch import Tensor

__all__ = ["log_tilt"]


def log_tilt(reward: Tensor, strength: float) -> Tensor:
    """lambda r, where a reward of -inf (a dropped sample) stays -inf under any strength."""
    return torch.where(reward == -torch.inf, reward, strength * reward)
