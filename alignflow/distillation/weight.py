"""A learned weight of a loss by the times of its rows."""

import math

import torch
from torch import Tensor, nn

from alignflow import checks

__all__ = ["LossWeight"]


class LossWeight(nn.Module):
    r"""A learned weight :math:`e^{-w_{s,t}} L + w_{s,t}`, where w settles at the log of the loss.

    Args:
        frequencies: Random Fourier features of each of the two times.

    Source: Karras et al. 2024 (2312.02696), section 4; Boffi et al. 2025, section 3.
    """

    frequencies: Tensor

    def __init__(self, frequencies: int = 64):
        super().__init__()
        frequencies = checks.count("frequencies", frequencies)
        self.register_buffer("frequencies", torch.randn(2, frequencies))
        self.out = nn.Linear(2 * frequencies, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, loss: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Loss of each row (N,) and its times (N,) -> weighted loss (N,)."""
        angle = 2 * math.pi * torch.stack([s, t], dim=-1).float() @ self.frequencies
        w = self.out(torch.cat([angle.cos(), angle.sin()], dim=-1)).squeeze(-1)
        return (-w).exp() * loss + w
