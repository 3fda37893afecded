r"""Tilt matching, exact at any strength, by rows of the tilt and a share of the base's velocity.

.. math:: \text{target} = d - \frac{c}{w}\,(d - b), \quad x_1 \sim w \rho_1,
    \qquad w = \frac{e^{\lambda r}}{\mathbb{E}\, e^{\lambda r}}

d - b has mean 0 at every state under the base, so (d - b) / w has under the tilt, and any constant
c has the tilt as its fixed point: c = 0 is weighted flow matching, and c = 1, which is ITM, lowers
the variance while w is near 1.

Published, endpoints are the base's and the target b_theta + w (d - b_theta) - c (d - b), which has
the same gradient in mean. But where all endpoints weigh nothing it is the model's own velocity less
c (d - b): nothing holds it there, and what the base errs by drives it away, divided by E[w | x_t].
So c is bounded by the least weight, and rows are drawn by theirs: the target is then data and the
base, in shares that are bounded, and the base's error enters it no more than `MOST` times.

Source: Tilt Matching (2512.21829), ITM, with weights normalized so that a constant reward does
nothing.
"""

import torch
from torch import Tensor

from .tilt_matching import TiltMatching

__all__ = ["ITM"]

MOST = 4.0  # of c over the weight of a row


class ITM(TiltMatching):
    """Implicit tilt matching; weighted flow matching where some of the base weighs nothing."""

    def drawn(self, n):
        """n rows of the pool with what each is worth, drawn by it."""
        return self.pool.draw(n, n)

    def blend(self, direction, base, own, worth):
        variate = (direction - base) / worth
        return direction - self.share(direction - own, variate) * variate

    @property
    def most(self) -> Tensor:
        """What c may be, (), given the least weight of the pool."""
        return MOST * self.pool.weight.min()

    def share(self, values: Tensor, variate: Tensor) -> Tensor:
        """c, ().

        Args:
            values: What is regressed but for its mean, (N, *E).
            variate: Of mean 0 at every state, (N, *E).
        """
        return torch.minimum(self.most, torch.ones(())).to(values)
