r"""A control variate whose share is estimated as a running ratio.

.. math:: c^* = \frac{\mathbb{E}\,\langle a, v \rangle}{\mathbb{E}\,|v|^2}, \qquad
    \mathbb{E}[v] = 0

Of all a - c v, which have one mean, that with c* has the least second moment.
"""

import torch
from torch import Tensor, nn

from alignflow import checks

__all__ = ["ControlVariate"]


class ControlVariate(nn.Module):
    """The best share of a variate of mean 0 to subtract.

    Args:
        memory: Share of the running ratio that a batch leaves; 0.99 remembers about 100 batches.
    """

    moments: Tensor

    def __init__(self, memory: float = 0.99):
        super().__init__()
        self.memory = checks.fraction("memory", memory, one=False)
        self.register_buffer("moments", torch.zeros(2, dtype=torch.float64))

    @property
    def share(self) -> Tensor:
        """c, (), as estimated so far."""
        return self.moments[0] / self.moments[1].clamp_min(1e-30)

    def update(self, values: Tensor, variate: Tensor) -> None:
        """Take a batch, (N, *E) both, into account."""
        found = torch.stack([(values * variate).mean(), variate.square().mean()])
        self.moments.lerp_(found.to(self.moments), 1 - self.memory)
