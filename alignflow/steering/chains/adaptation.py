r"""How far the moves of a chain reach, adapted to a fraction of them that is to be accepted.

.. math:: t = t_{\min} + (t_{\max} - t_{\min})\, u^{\gamma}, \qquad b = u^{1/\gamma}, \qquad
    \log\gamma \leftarrow \log\gamma + \frac{3\,(a_k - a)}{\sqrt{k+1}}

u is uniform, a_k the chance by which move k was accepted, and a the fraction aimed at. The larger
gamma, the earlier the times of a waltz, and the longer the steps of Crank-Nicolson. Each chain
adapts in the first half of its steps, so that the kernel of the second half is fixed and leaves the
tilt invariant.

Source: Robbins and Monro 1951; adaptive Markov chains (Andrieu and Thoms 2008).
"""

import torch

from alignflow import checks
from alignflow.graph import Node

__all__ = ["ADAPTED", "Adaptation"]

ADAPTED = 0.5
"""Fraction of the steps in which a chain adapts."""
FARTHEST = 2.0
"""Largest |log gamma|: no range of times or sizes is ever left out."""
GAIN = 3.0
"""Of the first move: by so much log gamma changes for a fraction of 1 too many."""


class Adaptation(Node):
    """One step of stochastic approximation of `reach`, the log of gamma.

    Args:
        acceptance: Fraction of the moves to be accepted.
    """

    reads = ("chance", "step", "progress")
    optional = ("reach",)
    writes = ("reach",)
    whole_batch = True

    def __init__(self, acceptance: float):
        super().__init__()
        self.acceptance = checks.fraction("acceptance", acceptance, zero=False, one=False)

    def forward(self, tensordict):
        chance, step, progress = (self.read(tensordict, key) for key in self.reads)
        reach = self.read(tensordict, "reach")
        reach = torch.zeros_like(progress) if reach is None else reach
        moved = reach + GAIN * (chance.to(reach) - self.acceptance) / (step + 1).sqrt()
        moved = moved.clamp(-FARTHEST, FARTHEST)
        return self.write(tensordict, reach=torch.where(progress < ADAPTED, moved, reach))

    def extra_repr(self) -> str:
        return f"acceptance={self.acceptance:g}"
