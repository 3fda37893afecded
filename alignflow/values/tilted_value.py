r"""The value of a tilt, from draws of the endpoint.

.. math::
    V_t(x) = \log E[e^{\lambda r(x_1)} | x_t = x]
    \approx \mathrm{logsumexp}_i(\lambda r(z_i) + l_i) - \mathrm{logsumexp}_i(l_i)

z_i are the draws of a posterior, l_i their log-weights (0 for an unweighted one), lambda the
strength.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from alignflow.conditions import repeat_rows
from alignflow.reward_module import Reward
from alignflow.tilt import Tilt

__all__ = ["SoftmaxMean", "score_endpoint_terms", "score_endpoints", "tilted_value"]


def tilted_value(
    endpoint_reward: Tensor, tilt: Tilt, endpoint_log_weight: Tensor | None = None
) -> Tensor:
    """Value V_t (B,) from rewards (B, K) of endpoint draws and their log-weights (B, K)."""
    exponent = tilt.log_weight(endpoint_reward)
    if endpoint_log_weight is None:
        return exponent.logsumexp(-1) - math.log(exponent.shape[-1])
    # both sums in the precision of the rewards, which is that of float32 at least
    log_weight = endpoint_log_weight.to(exponent)
    return (exponent + log_weight).logsumexp(-1) - log_weight.logsumexp(-1)


def score_endpoints(
    reward: Reward, endpoint: Tensor, condition: Any, decode: Callable[[Tensor], Any]
) -> Tensor:
    """Rewards (B, K) of endpoints (B, K, *E), scored as one flat batch."""
    return score_endpoint_terms(reward, endpoint, condition, decode)[0]


def score_endpoint_terms(
    reward: Reward, endpoint: Tensor, condition: Any, decode: Callable[[Tensor], Any]
) -> tuple[Tensor, dict[str, Tensor]]:
    """As `score_endpoints`, and the terms (B, K) of a composite by name, without a graph."""
    shape, draws = endpoint.shape[:2], endpoint.shape[1]
    given = repeat_rows(condition, draws)
    scores, terms = reward.score_terms(endpoint.flatten(0, 1), given, decode)
    return scores.reshape(shape), {name: term.reshape(shape) for name, term in terms.items()}


class SoftmaxMean:
    """sum_i softmax(exponent)_i f_i over draws that come in parts, numerically stable.

    The largest exponent so far is kept apart, so that nothing overflows; a part with a larger one
    shrinks what came before.
    """

    def __init__(self):
        self.peak: Tensor | None = None  # (B,)

    def add(self, exponent: Tensor, total: Callable[[Tensor], Tensor]) -> None:
        """Take in draws with exponents (B, k).

        Args:
            exponent: -inf leaves a draw out.
            total: From weights (B, k) to the weighted sum of what is averaged, (B, *S).
        """
        peak = exponent.amax(-1)
        if self.peak is not None:
            peak = torch.maximum(peak, self.peak)
        # a row without any draw that counts yet has a peak of -inf, which must not be subtracted
        safe = peak.nan_to_num(neginf=0.0)
        weight = (exponent - safe.unsqueeze(-1)).exp()
        added = total(weight)
        if self.peak is None:
            self.sum, self.weight = added, weight.sum(-1)
        else:
            shrink = (self.peak - safe).exp()
            self.sum = self.sum * _as_rows(shrink, added) + added
            self.weight = self.weight * shrink + weight.sum(-1)
        self.peak = peak

    @property
    def mean(self) -> Tensor:
        """(B, *S); 0 for a row in which no draw counts."""
        weight = _as_rows(self.weight, self.sum)
        return torch.where(weight > 0, self.sum / weight, 0.0)


def _as_rows(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
