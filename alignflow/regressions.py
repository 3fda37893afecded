r"""Regressions: the loss of each row between what a network predicts and its target.

.. math::
    \text{squared}\quad & \tfrac1d \lvert y - y^* \rvert^2 \\
    \text{Huber}\quad & \text{squared up to } \delta, \text{ then linear} \\
    \text{damped}\quad & \ell / (1 + \bar\ell / \mathbb{E}\lvert x_1 - x_0 \rvert^2)
        \quad (\bar\ell \text{ is } \ell \text{ held constant}) \\
    \text{cross-entropy}\quad & -\textstyle\sum_k y^*_k \log \mathrm{softmax}(y)_k

Targets of a cross-entropy sum to 1 and may have coefficients of any sign: its gradient in the
logits is softmax(y) - y*, it is convex in them, and its minimizer is the mean target where that
lies in the simplex.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import huber_loss, log_softmax

from alignflow import checks

__all__ = ["CrossEntropy", "Damped", "Huber", "Regression", "SquaredError"]


@runtime_checkable
class Regression(Protocol):
    """A callable (prediction, target, s, t, directions) -> the loss of each row, (N,)."""

    def __call__(
        self,
        prediction: Tensor,
        target: Tensor,
        s: Tensor,
        t: Tensor,
        directions: Tensor | None = None,
    ) -> Tensor:
        """Losses of rows.

        Args:
            prediction: (N, *E), or logits (N, *E).
            target: (N, *E).
            s: Starts of the jumps, (N,).
            t: Ends, (N,).
            directions: x1 - x0 of rows off the diagonal, (N, *E): the scale of residuals. None on
                the diagonal, where targets are noisy and long residuals no outliers.
        """
        ...


@dataclass(frozen=True)
class SquaredError:
    """Mean square of the residual."""

    def __call__(self, prediction, target, s, t, directions=None) -> Tensor:
        return (prediction - target).float().square().flatten(1).mean(1)


@dataclass(frozen=True)
class Huber:
    """Mean square of the residual's coordinates up to a length, and linear beyond it.

    Args:
        delta: The length, in units of the prediction.
    """

    delta: float = 1.0

    def __post_init__(self):
        checks.positive("delta", self.delta)

    def __call__(self, prediction, target, s, t, directions=None) -> Tensor:
        loss = huber_loss(prediction.float(), target.float(), reduction="none", delta=self.delta)
        return 2 * loss.flatten(1).mean(1)


@dataclass(frozen=True)
class Damped:
    """Down-weights outlier residuals off the diagonal: l / (1 + l / E|x1 - x0|^2).

    The denominator is constant. A map that learns its jumps from itself where nothing else holds
    its velocity may diverge without it.
    """

    def __call__(self, prediction, target, s, t, directions=None) -> Tensor:
        loss = SquaredError()(prediction, target, s, t)
        if directions is None:
            return loss
        return loss / (1 + loss.detach() / directions.square().mean())


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of logits (N, ..., V) against targets that sum to 1 over the last axis."""

    def __call__(self, prediction, target, s, t, directions=None) -> Tensor:
        dtype = torch.promote_types(prediction.dtype, torch.float32)
        losses = -(target.to(dtype) * log_softmax(prediction.to(dtype), -1)).sum(-1)
        return losses.reshape(len(losses), -1).mean(1)
