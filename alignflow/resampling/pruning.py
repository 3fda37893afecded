r"""Fewer and fewer particles of the base, those of the highest value, and the best of them.

.. math:: M_t = \max(1, \lceil M (1-t) \rceil)

Each system has the same number at a time, so that steps of all systems stay one batch. What is
returned is the best of those that are left, which is the best of M if the value ranks particles as
their rewards will; it is not the tilt.
"""

import math

import torch

from alignflow import checks
from alignflow.tilt import Tilt

from .resamplers import BestOfN

__all__ = ["Pruning"]


class Pruning(BestOfN):
    """Drops particles as time goes on, and selects the one with the highest reward.

    Args:
        tilt: Weighs a finished sample by exp(lambda r).
        particles: M, of each system at time 0.
    """

    reads = ("time",)
    optional = ("value", "group_size")
    writes = ("group_size",)
    carries = ("group_size",)

    def __init__(self, tilt: Tilt, particles: int):
        super().__init__(tilt)
        self.particles = checks.count("particles", particles)

    def forward(self, tensordict):
        value, size = self.read(tensordict, "value"), self.read(tensordict, "group_size")
        time = self.read(tensordict, "time")
        if value is None:
            return tensordict
        now = self.particles if size is None else int(size[0])
        left = min(now, max(1, math.ceil(self.particles * (1 - time[0].item()))))
        systems = value.unflatten(0, (-1, now))
        # in order, so that particles of a system stay side by side and in place
        chosen = systems.topk(left, dim=1).indices.sort(dim=1).values
        start = torch.arange(len(systems), device=chosen.device).unsqueeze(-1) * now
        tensordict = tensordict[(start + chosen).flatten()]
        return self.write(tensordict, group_size=chosen.new_full((chosen.numel(),), left))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, particles={self.particles}"
