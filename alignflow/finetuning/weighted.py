r"""Reward-weighted distillation: flow matching on candidates drawn with the weights of the tilt.

.. math:: \min_\theta \; \mathbb{E}_{x_1 \sim \rho_1} \big[\, w(x_1)\,
    \lvert b_\theta(I_t) - (x_1 - x_0) \rvert^2 \big],
    \qquad w = \frac{e^{\lambda r}}{\mathbb{E}\, e^{\lambda r}}

At each state the minimizer is E[w d | x_t] / E[w | x_t] with d = x1 - x0, the velocity of the
interpolant to the tilt: exact for any strength and any reward, which is only ever scored.

The weights are met by resampling: rows of a batch are drawn from a large pool of candidates with
probabilities in proportion to w. Given the pool, the gradient's mean is that of weighting uniform
rows, and its second moment is E[w g^2] in place of E[w^2 g^2], smaller by about the share of
candidates that are effective. A batch is then plain data from the tilt, so any rule that learns a
flow map learns a few-step one from it, off the diagonal too.
"""

from typing import Any

from tensordict import TensorDict, TensorDictBase

from alignflow.flow_map import FlowMap

from .pooled import Pooled

__all__ = ["Weighted"]


class Weighted(Pooled):
    """Flow matching on the base's samples resampled by exp(strength r); any black box will do.

    Args:
        data: Tilt this, anything that `pretrain` takes for data, and not the base's samples.
    """

    def __init__(
        self, policy: FlowMap, reward: Any, strength: float, *, data: Any = None, **options
    ):
        if data is not None and {"candidate_steps", "condition"} & set(options):
            raise ValueError(
                "candidate_steps and condition would do nothing with data, which is not sampled "
                "and brings its own conditions"
            )
        super().__init__(policy, reward, strength, **options)
        if data is not None:
            self.pool = self.pool.of(data)

    def sample_batch(self, n: int) -> TensorDict:
        """n rows of the tilt: `data` (n, *E) and perhaps `condition` (n, ...)."""
        return self.under_keys(self.pool.resample(n))

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of rows of the tilt: `data` (N, *E) and perhaps `condition` (N, ...)."""
        condition = tensordict.get(self.tensor_keys.condition, None)
        losses = self.distil(tensordict.get(self.tensor_keys.data), condition)
        return losses.set("effective_share", self.pool.share.clone())
