r"""Linear and quadratic rewards, whose tilts of a Gaussian mixture are Gaussian mixtures.

.. math:: r(x) = g^\top (x - c) - \tfrac12 (x - c)^\top P (x - c)
"""

import torch
from torch import Tensor, nn

from alignflow import checks
from alignflow.reward_module import Reward

__all__ = ["Linear", "Quadratic", "QuadraticForm", "quadratic_form"]


class QuadraticForm(nn.Module):
    """The function behind both rewards, with its gradient.

    Args:
        center: c, (D,).
        direction: g, the gradient at the center, (D,).
        precision: P, symmetric, (D, D).
    """

    center: Tensor
    direction: Tensor
    precision: Tensor

    def __init__(self, center: Tensor, direction: Tensor, precision: Tensor):
        super().__init__()
        self.register_buffer("center", center)
        self.register_buffer("direction", direction)
        self.register_buffer("precision", precision)

    def forward(self, x: Tensor) -> Tensor:
        """r(x), (*B,), of points (*B, D)."""
        offset = x - self.center.to(x)
        return ((self.direction.to(x) - offset @ self.precision.to(x) / 2) * offset).sum(-1)

    def gradient(self, x: Tensor) -> Tensor:
        """grad r(x), (*B, D)."""
        return self.direction.to(x) - (x - self.center.to(x)) @ self.precision.to(x)


class Quadratic(Reward):
    """A bowl around a center, r(x) = -1/2 (x-c)^T P (x-c).

    Args:
        center: c, (D,).
        precision: P, a number or a symmetric (D, D); its unit is 1 / state^2.
        name: What errors and reports call it.
    """

    def __init__(self, center: Tensor, precision: float | Tensor = 1.0, name: str = "quadratic"):
        center = _vector(center, "center")
        precision = checks.as_tensor("precision", precision).to(center)
        if not torch.isfinite(precision).all():
            raise ValueError(f"precision must be finite, got {checks.shown(precision)}")
        if precision.ndim == 0:
            precision = precision * torch.eye(len(center)).to(center)
        if precision.shape != (len(center), len(center)):
            raise ValueError(
                f"precision must be a number or of shape ({len(center)}, {len(center)}), "
                f"got {tuple(precision.shape)}"
            )
        if not torch.allclose(precision, precision.mT):
            raise ValueError(f"precision must be symmetric, got {precision.tolist()}")
        form = QuadraticForm(center, torch.zeros_like(center), precision)
        super().__init__(form, name, differentiable=True)


class Linear(Reward):
    """The component along a direction, r(x) = g^T x.

    Args:
        direction: g, (D,); its length is the reward per unit of state.
        name: What errors and reports call it.
    """

    def __init__(self, direction: Tensor, name: str = "linear"):
        direction = _vector(direction, "direction")
        zeros = torch.zeros_like(direction)
        form = QuadraticForm(zeros, direction, torch.diag(zeros))
        super().__init__(form, name, differentiable=True)


def quadratic_form(reward) -> QuadraticForm | None:
    """The form behind a reward, or None where it has none."""
    function = reward.function if isinstance(reward, Reward) else reward
    return function if isinstance(function, QuadraticForm) else None


def _vector(values, what: str) -> Tensor:
    values = checks.as_tensor(what, values)
    if values.ndim != 1 or not values.is_floating_point():
        raise ValueError(
            f"{what} must be a vector (D,) of floats, "
            f"got {values.dtype} of shape {tuple(values.shape)}"
        )
    if not torch.isfinite(values).all():
        raise ValueError(f"{what} must be finite, got {values.tolist()}")
    return values
