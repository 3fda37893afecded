"""Rotary embeddings: queries and keys turned by angles in proportion to their positions.

Source: Su et al. 2021, "RoFormer: enhanced transformer with rotary position embedding".
"""

import torch
from torch import Tensor

__all__ = ["rotary_table", "turned"]


def rotary_table(length: int, features: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles of L positions, (L, features / 2) each."""
    half = features // 2
    angle = torch.arange(length)[:, None] * 10_000.0 ** (-torch.arange(half) / half)
    return angle.cos(), angle.sin()


def turned(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries or keys (N, heads, L, features), turned by their positions."""
    first, second = heads.chunk(2, dim=-1)
    rotated = first * cos - second * sin, first * sin + second * cos
    # cosines are float32, also where the heads are not
    return torch.cat(rotated, dim=-1).to(heads)
