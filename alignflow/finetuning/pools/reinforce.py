r"""Reinforce adjoint matching, and advantage weighted matching: biased, to be compared with.

.. math:: \text{RAM:}\quad & \text{regress on } b + A\, (d - b_\theta), \qquad
        A = \lambda (r(x_1) - c), \quad d = x_1 - x_0 \\
    \text{AWM:}\quad & \min_\theta\; \mathbb{E}\big[A\, \lvert b_\theta - d \rvert^2
        + \lvert b_\theta - b \rvert^2\big]

b is the base's velocity, and the ends x_1 are the tuned model's own, noised anew. The gradients of
the two are the same. Where the model's velocity is that of its samples, they are at rest at

.. math:: b_\theta = b + \lambda\, \mathrm{Cov}_\theta(r, d \,|\, x_t),

and the tilt is at

.. math:: b_\lambda = b + \int_0^\lambda \mathrm{Cov}_a(r, d \,|\, x_t)\, da,

with the covariance of each strength on the way and not that of the last one. They agree to first
order, and for a linear reward of normal data; a stronger tilt is missed, whatever the training.

The constant c is the pool's least reward, with which A is never negative. With its mean, as
published, the loss has no minimum at states where E[A | x_t] < -1.

Sources: RAM (2605.10759), without its correction for the cost of paths; AWM (2509.25050), without
its division by the standard deviation, which makes the strength another one, and its clipping of
ratios, which are 1 for fresh samples.
"""

from dataclasses import dataclass
from functools import partial

from tensordict import TensorDict
from torch import Tensor

from alignflow import checks
from alignflow.finetuning.problem import Problem
from alignflow.settings import option

from .tilt_matching import WeightedVelocityTuner
from .velocity_matching import VelocityMatching

__all__ = ["AWM", "RAM"]


@dataclass(frozen=True, kw_only=True)
class RAM(VelocityMatching):
    """Reinforce adjoint matching on the model's own samples: biased at strong tilts."""

    takes_stages = False

    pool: int = option(2048, "samples of the model at a time", partial(checks.count, least=2))
    refresh_every: int = option(8, "batches between fresh samples", checks.count)

    def bind(self, problem: Problem) -> "RAMTuner":
        return RAMTuner(problem, self)


@dataclass(frozen=True, kw_only=True)
class AWM(RAM):
    """Matching weighted by advantages, near the base: the update of ram, and as biased."""


class RAMTuner(WeightedVelocityTuner):
    """The loss of `RAM`."""

    weight = "centered"

    def __init__(self, problem: Problem, method: RAM):
        super().__init__(problem, method, source=problem.policy)

    def draw(self, n: int) -> TensorDict:
        drawn = self.pool.draw(n)
        return drawn.set("centered", drawn["centered"] - self.pool.centered.min())

    def blend(self, direction: Tensor, base: Tensor, model: Tensor, weight: Tensor) -> Tensor:
        return base + weight * (direction - model)
