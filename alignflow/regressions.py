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
from torch.nn.functional import huber_loss

from alignflow import checks
from alignflow.cross_entropy import cross_entropy
from alignflow.interpolants import expand_time

__all__ = [
    "CrossEntropy",
    "Damped",
    "FrugalCrossEntropy",
    "Huber",
    "Regression",
    "SoftTarget",
    "SquaredError",
]


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
            target: (N, *E), or what stands for it: `CrossEntropy` tells.
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
class SoftTarget:
    """Distributions w softmax(A) + (1 - w) softmax(B), given by the logits of two teachers.

    Args:
        first: A, (N, ..., V).
        second: B, (N, ..., V).
        weight: w, (N,).
    """

    first: Tensor
    second: Tensor
    weight: Tensor

    def distribution(self) -> Tensor:
        """The probabilities, (N, ..., V)."""
        weight = expand_time(self.weight, self.first).to(self.first)
        return torch.lerp(self.second.softmax(-1), self.first.softmax(-1), weight)

    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """A (M, V), B (M, V) and the coefficients (M, 3) of A, B and a token in each of M rows."""
        first, second = self.first.flatten(0, -2), self.second.flatten(0, -2)
        weights = torch.stack([self.weight, 1 - self.weight, 0 * self.weight], dim=1)
        return first, second, weights.repeat_interleave(len(first) // len(weights), dim=0)


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of logits (N, ..., V) against targets that sum to 1 over the last axis.

    Targets may be tokens (N, ...) or a `SoftTarget` instead. Of large logits nothing of their size
    is held but their gradient.
    """

    def __call__(self, prediction, target, s, t, directions=None) -> Tensor:
        logits = prediction.flatten(0, -2)
        if isinstance(target, Tensor) and target.is_floating_point():
            losses = self._against(logits, target.flatten(0, -2))
        else:
            losses = _against_parts(logits, target)
        return losses.reshape(len(prediction), -1).mean(1)

    def _against(self, logits: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(logits, target)


@dataclass(frozen=True)
class FrugalCrossEntropy(CrossEntropy):
    """The same, for targets that nobody else uses: their memory is that of the gradient.

    Of large logits a target is lost in the backward pass, of which there is one.
    """

    def _against(self, logits: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(logits, target, target if target.dtype == logits.dtype else None)


def _against_parts(logits: Tensor, target: Tensor | SoftTarget) -> Tensor:
    """Losses of rows (M, V) against tokens, or against two teachers."""
    # late, for the import of Triton takes long
    from alignflow.kernels import soft_cross_entropy

    if isinstance(target, SoftTarget):
        first, second, weights = target.rows()
        return soft_cross_entropy(logits, first, second, None, weights)
    weights = logits.new_zeros(len(logits), 3)
    weights[:, 2] = 1
    return soft_cross_entropy(logits, None, None, target.flatten(), weights)
