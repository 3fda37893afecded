"""A network on random Fourier features, which extrapolates differently from an MLP."""

import math

import torch
from torch import Tensor, nn

__all__ = ["FourierNetwork"]


class FourierNetwork(nn.Module):
    """Average velocity of (N, D) states from sines and cosines of the state and both times.

    Args:
        dimension: D.
        width: Hidden units of a layer.
        depth: Hidden layers.
        scale: Std of the data; inputs are divided and outputs multiplied by it.
        features: Frequencies, drawn once.
        frequency: Their std along an input, in periods per unit of it.
    """

    frequencies: Tensor

    def __init__(
        self,
        dimension: int,
        width: int = 128,
        depth: int = 3,
        scale: float = 1.0,
        features: int = 64,
        frequency: float = 0.5,
    ):
        super().__init__()
        self.scale = scale
        drawn = torch.randn(dimension + 2, features, generator=torch.Generator().manual_seed(0))
        self.register_buffer("frequencies", 2 * math.pi * frequency * drawn)
        layers: list[nn.Module] = [nn.Linear(2 * features, width), nn.GELU()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, dimension))

    def forward(self, x: Tensor, s: Tensor, t: Tensor, condition: None = None) -> Tensor:
        """State (N, D), times (N,) -> average velocity (N, D)."""
        angles = torch.cat([x / self.scale, s[:, None], t[:, None]], dim=-1) @ self.frequencies
        return self.layers(torch.cat([angles.cos(), angles.sin()], dim=-1)) * self.scale
