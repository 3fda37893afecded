r"""Tilt matching with the control variate that suits: between weighted flow matching and ITM.

.. math:: \text{target} = d - c v, \quad v = \frac{d - b}{w}, \qquad
    c^* = \frac{\mathbb{E}\,\langle d - b_\theta, v \rangle}{\mathbb{E}\,|v|^2}

v has mean 0 at every state, so any c has the tilt as its fixed point, and c* has the least
variance. It is estimated as a running ratio, and bounded as in `itm`.

Source: Tilt Matching (2512.21829) for the ends of the family.
"""

from typing import Any

import torch

from alignflow.flow_map import FlowMap

from .control_variate import ControlVariate
from .itm import ITM

__all__ = ["Tilt"]


class Tilt(ITM):
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

    def share(self, values, variate):
        self.control.update(values, variate)
        return self.used.to(values)

    @property
    def used(self):
        """c as it is used, ()."""
        return torch.minimum(self.most, self.control.share.to(self.most))

    def forward(self, tensordict):
        losses = super().forward(tensordict)
        return losses.set("control", self.used)
