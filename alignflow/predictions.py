r"""What a network predicts of a jump, and how a loss regresses it.

One object a parametrization. A loss of flow maps asks it alone, and so serves average velocities,
mean denoisers and logits on the simplex alike:

.. math::
    \text{average velocity}\quad & v_{s,t} = g\, v_{s,u} + (1-g)\, v_{u,t}(X_{s,u}),
        \quad g = \tfrac{u-s}{t-s} \\
    \text{mean denoiser}\quad & \delta_{s,t} = x + (1-s)\, v_{s,t}

Source: Boffi et al. 2025 (2505.18825) for the semigroup of average velocities.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from alignflow.interpolants import Interpolant, expand_time, flow_map_from_average_velocity
from alignflow.regressions import Damped, Regression, SoftTarget, SquaredError

__all__ = ["AverageVelocity", "MeanDenoiser", "Prediction"]


class Prediction:
    """How jumps are predicted and regressed: what a new parametrization implements.

    Attributes:
        regression: What a loss regresses predictions by, unless it is given another.
        robust: The same for jumps that a model learns from itself while its velocity is tuned,
            where residuals may be outliers.
        is_velocity: Whether predictions are average velocities, so that they can be differentiated
            in time and added, as LSD and ESD do.
        is_logits: Whether predictions are logits of a mean denoiser on the simplex.
        velocity_at_end: Whether the model's velocity is defined at time 1. Where it is 0/0 there,
            LSD compares denoisers.
    """

    regression: ClassVar[Regression]
    robust: ClassVar[Regression]
    is_velocity: ClassVar[bool] = False
    is_logits: ClassVar[bool] = False
    velocity_at_end: ClassVar[bool] = False

    def predict(self, policy: Any, x: Tensor, s: Tensor, t: Tensor, condition: Any) -> Tensor:
        """The policy's prediction for the jump from s to t, as the regression takes it."""
        raise NotImplementedError

    def average_velocity(self, prediction: Tensor, x: Tensor, s: Tensor) -> Tensor:
        """v_{s,t}(x), (N, *E), of a prediction."""
        raise NotImplementedError

    def jump(self, prediction: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """X_{s,t}(x), (N, *E), of a prediction."""
        velocity = self.average_velocity(prediction, x, s)
        return flow_map_from_average_velocity(x, s, t, velocity)

    def target(self, velocity: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """What a prediction on the diagonal is regressed on, of a velocity (N, *E) at x and t."""
        raise NotImplementedError

    def state(self, path: Interpolant, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        """I_t, (N, *E), of noise and data (N, *E)."""
        return path.state(x0, x1, t)

    def anchor(self, path: Interpolant, x0: Tensor, x1: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """What a prediction on the diagonal is regressed on, of noise and data around x = I_t."""
        return self.target(path.velocity(x0, x1, t), x, t)

    def through(
        self,
        predict: Callable[[Tensor, Tensor, Tensor], Tensor],
        x: Tensor,
        fraction: Tensor,
        s: Tensor,
        u: Tensor,
        t: Tensor,
    ) -> Tensor | SoftTarget:
        """What a prediction for s to t is regressed on, of two jumps from x through u.

        Args:
            predict: A callable (x, s, t) -> prediction.
            x: (N, *E).
            fraction: (u-s) / (t-s), (N,).
            s: (N,).
            u: (N,).
            t: (N,).
        """
        first = predict(x, s, u)
        second = predict(self.jump(first, x, s, u), u, t)
        return self.semigroup(first, second, fraction, s, u, t)

    def semigroup(
        self, first: Tensor, second: Tensor, fraction: Tensor, s: Tensor, u: Tensor, t: Tensor
    ) -> Tensor:
        """What a prediction for s to t is regressed on, of those for two jumps through u.

        Args:
            first: Prediction for s to u at x.
            second: Prediction for u to t at X_{s,u}(x).
            fraction: (u-s) / (t-s), (N,).
            s: (N,).
            u: (N,).
            t: (N,).
        """
        raise NotImplementedError


class AverageVelocity(Prediction):
    """The average velocity v_{s,t}, regressed on average velocities."""

    regression = SquaredError()
    robust = Damped()
    is_velocity = True
    velocity_at_end = True

    def predict(self, policy: Any, x: Tensor, s: Tensor, t: Tensor, condition: Any) -> Tensor:
        return policy.average_velocity(x, s, t, condition)

    def average_velocity(self, prediction: Tensor, x: Tensor, s: Tensor) -> Tensor:
        return prediction

    def target(self, velocity: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return velocity

    def semigroup(
        self, first: Tensor, second: Tensor, fraction: Tensor, s: Tensor, u: Tensor, t: Tensor
    ) -> Tensor:
        return torch.lerp(second, first, expand_time(fraction, first))


class MeanDenoiser(AverageVelocity):
    """The mean denoiser delta_{s,t}, regressed as the average velocity (delta - x) / (1-s)."""

    velocity_at_end = False
