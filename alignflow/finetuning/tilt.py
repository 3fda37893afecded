r"""Tilt matching with the control variate that suits: between weighted flow matching and ITM.

.. math:: \text{target} = b_\theta + w\,(d - b_\theta) - c\,(d - b), \qquad
    c^* = \frac{\mathbb{E}\,\langle w\,(d - b_\theta),\, d - b \rangle}{\mathbb{E}\,|d - b|^2}

d - b has mean 0 at every state, so any c has the tilt as its fixed point: c = 0 is weighted flow
matching, c = 1 is ITM, and c* has the least variance. It is estimated as a running ratio.

Source: Tilt Matching (2512.21829) for the ends of the family.
"""

from typing import Any

import torch
from torch import Tensor

from alignflow.flow_map import FlowMap

from .tilt_matching import TiltMatching

__all__ = ["Tilt"]


class Tilt(TiltMatching):
    """Tilt matching by the member of the family with the least variance, estimated as it goes.

    Args:
        memory: Share of the running ratio that a batch leaves; 0.99 remembers about 100 batches.
    """

    moments: Tensor

    def __init__(
        self, policy: FlowMap, reward: Any, strength: float, *, memory: float = 0.99, **options
    ):
        if not 0 <= memory < 1:
            raise ValueError(f"memory must lie in [0, 1), got {memory}")
        super().__init__(policy, reward, strength, **options)
        self.memory = memory
        self.register_buffer("moments", torch.zeros(2, dtype=torch.float64))

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, the share of the pool that is effective, and c."""
        return [*super().out_keys, "control"]

    @property
    def control(self) -> Tensor:
        """c, (), as estimated so far."""
        return self.moments[0] / self.moments[1].clamp_min(1e-30)

    def blend(self, direction, base, own, worth):
        weighted, variate = worth * (direction - own), direction - base
        found = torch.stack([(weighted * variate).mean(), variate.square().mean()])
        self.moments.lerp_(found.to(self.moments), 1 - self.memory)
        return own + weighted - self.control.to(own) * variate

    def forward(self, tensordict):
        losses = super().forward(tensordict)
        return losses.set("control", self.control.float())
