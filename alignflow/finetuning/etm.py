r"""Explicit tilt matching: one step of the tilt's own differential equation in its strength.

.. math:: \text{target} = b + (\lambda r - \overline{\lambda r})\, (d - b),
    \qquad \frac{d b_\lambda}{d \lambda} = \mathbb{E}_\lambda[(r - \bar r)(d - b_\lambda) | x_t]

An Euler step: of first order, so that a strong tilt is reached in `levels`, whose error falls as
one over their number.

Source: Tilt Matching (2512.21829), ETM.
"""

from .tilt_matching import TiltMatching

__all__ = ["ETM"]


class ETM(TiltMatching):
    """Explicit tilt matching, a step of first order in the strength: in 8 levels by default."""

    worth = "gain"
    levels = 8

    def blend(self, direction, base, own, worth):
        return base + worth * (direction - base)
