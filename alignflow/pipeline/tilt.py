r"""What the exact tilt of a model would give, from many samples of the model itself.

.. math:: E^*[f] = \frac{\sum_i e^{\lambda r_i} f_i}{\sum_i e^{\lambda r_i}}

True for any reward, as far as the samples reach: the effective sample size says how far that is.
"""

import math

import torch
from torch import Tensor

from alignflow.metrics import Estimate
from alignflow.reward_module import RewardError, log_tilt

__all__ = ["interval", "kept_rewards", "pair", "reweighted_mean", "share"]

Z = 1.96  # standard errors on either side of a 95 % interval


def reweighted_mean(values: Tensor, rewards: Tensor, strength: float) -> Estimate:
    """Mean under the tilt of values (N,) of the model's samples, whose rewards are (N,)."""
    weight = log_tilt(rewards.double(), strength).softmax(0)
    # what a reward drops counts nothing, whatever its value (its reward is -inf)
    values = torch.where(weight > 0, values.double(), 0.0)
    mean = weight @ values
    # the delta method, for a ratio of two means
    error = torch.linalg.vector_norm(weight * (values - mean))
    return Estimate(mean.item(), error.item())


def kept_rewards(rewards: Tensor, model: str) -> Tensor:
    """Of the rewards (N,) of a model's samples, those of samples that the reward did not drop.

    Raises:
        RewardError: If they are fewer than two, so that no mean has an error.
    """
    kept = rewards[rewards > -math.inf]
    if len(kept) < 2:
        raise RewardError(
            f"the reward drops all but {len(kept)} of the {len(rewards)} samples of {model}, and a "
            "mean needs two: draw more, or drop fewer"
        )
    return kept


def pair(estimate: Estimate) -> list[float]:
    """An estimate as results record it, [value, standard error]."""
    return [estimate.value, estimate.standard_error]


def interval(rate: Estimate) -> list[float]:
    """A rate with its 95 % interval, [rate, low, high]."""
    half = Z * rate.standard_error
    return [rate.value, max(rate.value - half, 0.0), min(rate.value + half, 1.0)]


def share(count: float, n: int) -> list[float]:
    """A share of n samples with its 95 % interval (Wilson's), [share, low, high]."""
    p, z2 = count / n, Z**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    return [p, max(middle - half, 0.0), min(middle + half, 1.0)]
