"""The particles of the systems of chains: at which strengths they start, and how they interact."""

import torch
from torch import Tensor

from alignflow import checks
from alignflow.resampling import Resampler
from alignflow.tilt import Tilt

__all__ = ["Population"]


class Population(Resampler):
    """Acts before each step's moves, on whole systems; `finish` and `choose` are a resampler's.

    Args:
        tilt: Weighs the samples.
        particles: M, of each system.
    """

    def __init__(self, tilt: Tilt, particles: int):
        super().__init__()
        self.tilt, self.particles = tilt, checks.count("particles", particles)

    def fractions(self) -> Tensor:
        """Fractions of the tilt's strength at which the particles of a system start, (M,)."""
        return torch.zeros(self.particles)

    def extra_repr(self) -> str:
        return f"particles={self.particles}, strength={self.tilt.strength:g}"
