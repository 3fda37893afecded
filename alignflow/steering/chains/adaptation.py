r"""How far the moves of a chain reach, adapted to a fraction of them that is to be accepted.

.. math:: t = t_{\min} + (t_{\max} - t_{\min})\, u^{\gamma}, \qquad b = u^{1/\gamma}, \qquad
    \log\gamma \leftarrow \log\gamma + \frac{a_k - a}{\sqrt{k+1}}

u is uniform, a_k is 1 for a move that was accepted and 0 otherwise, and a is what is aimed at. The
larger gamma, the earlier the times of a waltz, the longer the steps of Crank-Nicolson; no range is
ever left out. Each chain adapts in the first half of its steps, so that the kernel of the second
half is fixed and leaves the tilt invariant.

Source: Robbins and Monro 1951; adaptive Markov chains (Andrieu and Thoms 2008).
"""

import torch

from alignflow import checks
from alignflow.graph import Node

__all__ = ["ADAPTED", "Adaptation"]

ADAPTED = 0.5
"""Fraction of the steps in which a chain adapts."""


class Adaptation(Node):
    """One step of stochastic approximation of `reach`, the log of gamma.

    Args:
        acceptance: Fraction of the moves to be accepted.
    """

    reads = ("accepted", "step", "progress")
    optional = ("reach",)
    writes = ("reach",)
    whole_batch = True

    def __init__(self, acceptance: float):
        super().__init__()
        self.acceptance = checks.fraction("acceptance", acceptance, zero=False, one=False)

    def forward(self, tensordict):
        accepted, step, progress = (self.read(tensordict, key) for key in self.reads)
        reach = self.read(tensordict, "reach")
        reach = torch.zeros_like(progress) if reach is None else reach
        moved = reach + (accepted.to(reach) - self.acceptance) / (step + 1).sqrt()
        return self.write(tensordict, reach=torch.where(progress < ADAPTED, moved, reach))

    def extra_repr(self) -> str:
        return f"acceptance={self.acceptance:g}"
