r"""The tilted velocity without a gradient: the weighted mean of draws against their mean.

.. math::
    b^* - b = \frac{\sum_i w_i z_i - \sum_i w^0_i z_i}{1-t},
    \qquad w = \mathrm{softmax}(\lambda r + l), \quad w^0 = \mathrm{softmax}(l)

The same draws stand in both terms, the second a control variate of the first. Nothing diverges at
time 0, and no gradient of the reward is needed.

Source: Meta Flow Maps (2601.14430), MFM-GF.
"""

import torch
from torch import Tensor

from alignflow.interpolants import expand_time

from .estimator import Estimator

__all__ = ["GradientFree"]


class GradientFree(Estimator):
    """b* - b, as `correction`; of one draw it would be 0."""

    reads = ("time", "endpoint")
    writes = ("endpoint_reward", "value", "correction")
    least_draws = 2

    def take(self, running, tensordict, alone):
        rewards, log_weight = self.score(running, tensordict)
        endpoint = self.read(tensordict, "endpoint")
        base = torch.zeros_like(rewards) if log_weight is None else log_weight
        running.tilted.add(self.tilt.log_weight(rewards) + base, lambda w: _total(w, endpoint))
        running.base.add(base, lambda w: _total(w, endpoint))

    def finish(self, running, tensordict):
        move = running.tilted.mean - running.base.mean
        time = expand_time(self.read(tensordict, "time"), move)
        self.write(tensordict, correction=move / (1 - time))
        return super().finish(running, tensordict)


def _total(weight: Tensor, endpoint: Tensor) -> Tensor:
    """sum_k w_k z_k, (B, *E)."""
    return torch.einsum("bk,bk...->b...", weight, endpoint)
