r"""Reward-weighted distillation: flow matching on candidates drawn with the weights of the tilt.

.. math:: \min_\theta \; \mathbb{E}_{x_1 \sim \rho_1} \big[\, w(x_1)\,
    \lvert b_\theta(I_t) - (x_1 - x_0) \rvert^2 \big],
    \qquad w = \frac{e^{\lambda r}}{\mathbb{E}\, e^{\lambda r}}

At each state the minimizer is E[w d | x_t] / E[w | x_t] with d = x1 - x0, the velocity of the
interpolant to the tilt: exact for any strength and any reward, which is only ever scored.

Instead of being weighted, rows of a batch are drawn from a large pool of candidates with
probabilities in proportion to w. Given the pool, the gradient's mean is that of weighting uniform
rows, and its second moment is E[w g^2] in place of E[w^2 g^2], smaller by about the effective
fraction of candidates. A batch is then plain data from the tilt, so any rule that learns a flow map
learns a few-step one from it, off the diagonal too.
"""

from dataclasses import dataclass
from typing import Any

from tensordict import TensorDict, TensorDictBase

from alignflow.finetuning.problem import Problem
from alignflow.settings import option

from .pooled import PooledMethod, PooledTuner

__all__ = ["Weighted"]


@dataclass(frozen=True, kw_only=True)
class Weighted(PooledMethod):
    """Flow matching on the base's samples resampled by exp(strength r); any black box will do."""

    takes_strengths = True

    data: Any = option(
        None, "what is tilted in place of the base's samples, anything pretrain takes for data"
    )

    def __post_init__(self):
        super().__post_init__()
        default = type(self).__dataclass_fields__["candidate_steps"].default
        if self.data is not None and self.candidate_steps != default:
            raise ValueError("candidate_steps would do nothing with data, which is not sampled")

    def bind(self, problem: Problem) -> "WeightedTuner":
        return WeightedTuner(problem, self)


class WeightedTuner(PooledTuner):
    """The loss of `Weighted`."""

    def __init__(self, problem: Problem, method: Weighted):
        if method.data is not None and problem.condition is not None:
            raise ValueError(
                "condition would do nothing with data, which brings its own conditions"
            )
        fraction = method.diagonal_fraction
        super().__init__(problem, method, diagonal_fraction=fraction, data=method.data)

    def sample_batch(self, n: int) -> TensorDict:
        """n rows of the tilt: `data` (n, *E) and perhaps `condition` (n, ...)."""
        return self.renamed(self.pool.resample(n))

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of rows of the tilt: `data` (N, *E) and perhaps `condition` (N, ...)."""
        losses = self.distil(self.read(tensordict, "data"), self.read(tensordict, "condition"))
        return losses.set("ess_fraction", self.pool.ess_fraction.clone())
