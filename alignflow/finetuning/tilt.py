r"""Tilt matching with the control variate that suits: between weighted flow matching and ITM.

.. math:: \text{target} = b_\theta + w\,(d - b_\theta) - c\,(d - b), \qquad
    c^* = \frac{\mathbb{E}\,\langle w\,(d - b_\theta),\, d - b \rangle}{\mathbb{E}\,|d - b|^2}

d - b has mean 0 at every state, so any c has the tilt as its fixed point: c = 0 is weighted flow
matching, c = 1 is ITM, and c* has the least variance. It is estimated as a running ratio.

Source: Tilt Matching (2512.21829) for the ends of the family.
"""

from typing import Any

from alignflow.flow_map import FlowMap

from .control_variate import ControlVariate
from .tilt_matching import TiltMatching

__all__ = ["Tilt"]


class Tilt(TiltMatching):
    """Tilt matching by the member of the family with the least variance, estimated as it goes.

    Args:
        memory: Share of the running estimate that a batch leaves.
    """

    def __init__(
        self, policy: FlowMap, reward: Any, strength: float, *, memory: float = 0.99, **options
    ):
        super().__init__(policy, reward, strength, **options)
        self.control = ControlVariate(memory)

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, the share of the pool that is effective, and c."""
        return [*super().out_keys, "control"]

    def blend(self, direction, base, own, worth):
        return own + self.control(worth * (direction - own), direction - base)

    def forward(self, tensordict):
        losses = super().forward(tensordict)
        return losses.set("control", self.control.share.float())
