r"""Means under a tilt, from samples of the base: self-normalized importance sampling.

.. math:: E^*[f] = \frac{\sum_i w_i f_i}{\sum_i w_i}, \qquad w_i = e^{\lambda r_i}

Consistent for any reward, as far as the samples reach: the effective sample size says how far.
Samples of several conditions are weighed within each; a condition keeps its fraction of the rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .estimate import Estimate
from .groups import normalize_by_group

__all__ = ["TiltRows", "centered", "pilot_ess", "reweighted_mean", "tilt_weights"]


def tilt_weights(log_weight: Tensor, groups: Tensor | None = None) -> Tensor:
    """Weights (N,), float64, of sum 1.

    Args:
        log_weight: (N,); -inf counts nothing.
        groups: Index of each row's condition, (N,); None where all have one.

    Raises:
        ValueError: If all weights of a group are 0.
    """
    log_weight = log_weight.double()
    if groups is None:
        return log_weight.softmax(0)
    fraction = torch.bincount(groups)[groups] / len(groups)
    return fraction * normalize_by_group(log_weight, groups).exp()


def centered(values: Tensor, weight: Tensor, groups: Tensor | None = None) -> Tensor:
    """Values (N,) less the mean under weights (N,) of their group (N,); 0 where the weight is 0."""
    values = torch.where(weight > 0, values.double(), 0.0)
    if groups is None:
        mean = weight @ values
    else:
        total, mass = weight.new_zeros(2, int(groups.max()) + 1)
        total.index_add_(0, groups, weight * values)
        mean = (total / mass.index_add_(0, groups, weight))[groups]
    return torch.where(weight > 0, values - mean, 0.0)


def reweighted_mean(values: Tensor, log_weight: Tensor, groups: Tensor | None = None) -> Estimate:
    """Mean of values (N,) under log-weights (N,), with its standard error by the delta method.

    A sample whose log-weight is -inf (dropped by its reward) counts nothing, whatever its value.

    Args:
        values: (N,).
        log_weight: (N,).
        groups: Index of each row's condition, (N,), within which weights are normalized.
    """
    weight = tilt_weights(log_weight, groups)
    mean = weight @ torch.where(weight > 0, values.double(), 0.0)
    error = torch.linalg.vector_norm(weight * centered(values, weight, groups))
    return Estimate(mean.item(), error.item())


def pilot_ess(log_weight: Tensor, groups: Tensor | None = None) -> Estimate:
    """Effective sample size of log-weights (N,), of the group (N,) where it is least.

    Its standard error is that of the delta method on the sums of the weights and of their squares.
    """
    if groups is None:
        weight = log_weight.double().softmax(0)
        square = weight.square()
        ess = 1 / square.sum()
        change = 2 * weight - square * ess - 1 / len(weight)
        return Estimate(ess.item(), (ess * torch.linalg.vector_norm(change)).item())
    found = [pilot_ess(log_weight[groups == group]) for group in groups.unique()]
    return min(found, key=float)


@dataclass(frozen=True)
class TiltRows:
    """Rows with weights that stand for the exact tilt.

    Attributes:
        values: Numbers of the rows by name, (M,) each, `reward` among them.
        weight: (M,), of sum 1.
        groups: Index of each row's condition, (M,); None where all have one.
        ess: Of the weights, if the rows are samples of the base; None if they are all there is.
    """

    values: Mapping[str, Tensor]
    weight: Tensor
    groups: Tensor | None = None
    ess: Estimate | None = None

    @classmethod
    def reweighted(
        cls, values: Mapping[str, Tensor], log_weight: Tensor, groups: Tensor | None = None
    ) -> "TiltRows":
        """Samples of the base with log-weights (M,) at full strength."""
        weight = tilt_weights(log_weight, groups)
        return cls(values, weight, groups, pilot_ess(log_weight, groups))

    def mean(self, name: str) -> Estimate:
        """Under the tilt, with its standard error; 0 where the rows are all there is."""
        values = torch.where(self.weight > 0, self.values[name].double(), 0.0)
        error = torch.linalg.vector_norm(self.influence(name)).item()
        return Estimate((self.weight @ values).item(), error)

    def std(self, name: str) -> float:
        """Standard deviation under the tilt, within conditions."""
        square = centered(self.values[name], self.weight, self.groups).square()
        return (self.weight @ square).sqrt().item()

    def influence(self, name: str) -> Tensor:
        """What each row adds to the error of the mean, (M,)."""
        change = self.weight * centered(self.values[name], self.weight, self.groups)
        return torch.zeros_like(change) if self.ess is None else change
