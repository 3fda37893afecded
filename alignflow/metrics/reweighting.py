r"""Means under a tilt, from samples of the base: self-normalized importance sampling.

.. math:: E^*[f] = \frac{\sum_i w_i f_i}{\sum_i w_i}, \qquad w_i = e^{\lambda r_i}

Consistent for any reward, as far as the samples reach: the effective sample size says how far.
"""

import torch
from torch import Tensor

from .estimate import Estimate

__all__ = ["reweighted_mean"]


def reweighted_mean(values: Tensor, log_weight: Tensor) -> Estimate:
    """Mean of values (N,) under log-weights (N,), with its standard error by the delta method.

    A sample whose log-weight is -inf (dropped by its reward) counts nothing, whatever its value.
    """
    weight = log_weight.double().softmax(0)
    values = torch.where(weight > 0, values.double(), 0.0)
    mean = weight @ values
    error = torch.linalg.vector_norm(weight * (values - mean))
    return Estimate(mean.item(), error.item())
