r"""Implicit tilt matching: exact at any strength, by a target that the model itself is part of.

.. math:: \text{target} = b_\theta + w\,(d - b_\theta) - (d - b),
    \qquad w = \frac{e^{\lambda r}}{\mathbb{E}\, e^{\lambda r}}

Its mean is the model's own velocity only where that is E[w d | x_t] / E[w | x_t], the tilt's: the
last term has mean 0, and takes away what the second has in common with it. That lowers the variance
while w is near 1; far from it `tilt`, which takes the best share of the last term, does better.

Source: Tilt Matching (2512.21829), ITM, with weights normalized so that a constant reward does
nothing.
"""

from .tilt_matching import TiltMatching

__all__ = ["ITM"]


class ITM(TiltMatching):
    """Implicit tilt matching, exact at any strength; of least variance where the tilt is weak."""

    def blend(self, direction, base, own, worth):
        return own + worth * (direction - own) - (direction - base)
