r"""Negative-aware fine-tuning: a contrast of better and worse samples, by one network.

.. math:: \min_\theta\; \mathbb{E}\big[\rho\, \lvert v_+ - d \rvert^2
    + (1 - \rho)\, \lvert v_- - d \rvert^2\big], \qquad
    v_\pm = b_{\rm old} \pm \beta\, (b_\theta - b_{\rm old}), \quad d = x_1 - x_0

with rho in [0, 1], the larger the better the sample. At each state the minimizer is

.. math:: b_{\rm old} + \tfrac{2}{\beta}\, \mathrm{Cov}_{\rm old}(\rho, d \,|\, x_t)

As published, rho is made of rewards over their standard deviation, old follows the model, and the
tilt grows until training ends. Here the strength is counted: a stage of strength h takes

.. math:: \rho = \tfrac12 + \tfrac{\beta}{2} h (r - \bar r),

so that its minimizer is an Euler step of h in the strength, that of `etm`, and stages add up to the
strength of the tilt. The gradient is beta^2 times that of a regression on
:math:`b_{\rm old} + h (r - \bar r)(d - b_{\rm old})`, which is what is done.

The jumps learn from the rewards too, by their induced velocity

.. math:: v_{s,t} - (t - s)\, \mathrm{sg}\Big[\frac{d}{ds} v_{s,t}\Big],

which is the velocity at s where they are those of one flow. It is regressed on the same target,
along which the derivative is taken. Published, the derivative is a finite difference of the old
model, so that all jumps from a state change as its velocity does; here it is the model's own, and
the fixed point is the map of the tuned velocity.

Sources: DiffusionNFT (2509.16117); MeanFlowNFT (2607.15273) for the jumps.
"""

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.distillation import ESD
from alignflow.distillation.rules import Learner, Rule
from alignflow.finetuning.problem import Problem
from alignflow.settings import option

from .tilt_matching import WeightedVelocityTuner
from .velocity_matching import PathBatch, VelocityMatching

__all__ = ["NFT"]


@dataclass(frozen=True, kw_only=True)
class NFT(VelocityMatching):
    """Contrast of better and worse samples, its strength counted: in 8 annealing stages by default.

    Jumps learn by the same contrast, for which a network needs a forward-mode derivative.
    """

    stages = 8

    beta: float = option(
        0.1,
        "how far apart the two velocities are, in changes of the velocity: a stage's strength "
        "times the reward, less its mean, is cut at 1/beta",
        checks.positive,
    )
    diagonal_fraction: float = option(
        0.5, "fraction of rows that train the velocity, the others the jumps", checks.fraction
    )
    rule: Rule = option(
        ESD(stop_gradient="target"),
        "that of MeanFlow, by which jumps learn from rewards; another one lets them follow the "
        "velocity",
    )

    def bind(self, problem: Problem) -> "NFTTuner":
        return NFTTuner(problem, self)


class NFTTuner(WeightedVelocityTuner):
    """The loss of `NFT`, over beta^2."""

    weight = "centered"

    def __init__(self, problem: Problem, method: NFT):
        super().__init__(problem, method)
        self.most = 1 / method.beta
        self._rule: Any = method.rule
        meanflow = isinstance(method.rule, ESD) and method.rule.stop_gradient == "target"
        self.contrasts_jumps = meanflow

    def draw(self, n: int) -> TensorDict:
        return self.pool.draw(n) if self.contrasts_jumps else super().draw(n)

    def blend(self, direction: Tensor, base: Tensor, model: Tensor, weight: Tensor) -> Tensor:
        return base + weight.clamp(-self.most, self.most) * (direction - base)

    def jumps(self, rows: TensorDictBase) -> Tensor:
        if not self.contrasts_jumps:
            return super().jumps(rows)
        x1, times = self.read(rows, "data"), self.distillation.times
        s, t = (time.to(x1) for time in times.pairs(len(x1), self.generator))
        x0 = self.policy.noise(len(x1), self.generator).to(x1)
        # targets are noisy, and long residuals no outliers
        pair = self.induced(rows, x0, x1, s, t)
        return self.distillation.regression(*pair, s, t).mean()

    def induced(
        self, rows: TensorDictBase, x0: Tensor, x1: Tensor, s: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The induced velocity of jumps from s to t, (N,), and its target, (N, *E) each.

        Args:
            rows: Of a batch.
            x0: Noise, (N, *E).
            x1: Data, (N, *E).
            s: (N,).
            t: (N,).
        """
        path, condition = self.distillation.path, self.read(rows, "condition")
        prediction, policy = self.distillation.prediction, self.distillation.policy
        x, direction = path.state(x0, x1, s), path.velocity(x0, x1, s)
        with torch.no_grad():
            base = self.base.velocity(x, s, condition)
            target = self.target(rows, PathBatch(x, s, direction, base, base, condition))

        def predict(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
            return prediction.predict(policy, x, s, t, condition)

        learner = Learner(predict, lambda x, s: target, prediction=prediction)
        return self._rule(learner, x, s, t, self.generator)
