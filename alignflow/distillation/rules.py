r"""The three characterizations of a flow map, each as a prediction and its target.

.. math::
    \text{PSD (semigroup)}\quad & X_{u,t}(X_{s,u}(x)) = X_{s,t}(x) \\
    \text{LSD (Lagrangian)}\quad & \partial_t X_{s,t}(x) = b_t(X_{s,t}(x)) \\
    \text{ESD (Eulerian)}\quad & \partial_s X_{s,t}(x) + \nabla X_{s,t}(x)\, b_s(x) = 0

A rule is called with a `Learner`, states (N, *E) and times (N,), and returns (prediction, target),
which are equal at the exact map. What is *not* differentiated is part of each rule, by the name of
the placement:

    none     the plain consistency loss, everything differentiated
    convex   the teacher's evaluation is constant
    full     ESD: the whole advective derivative is constant
    target   all but v_{s,t} itself is constant; no derivative of a derivative is taken

Source: Boffi et al. 2025 (2505.18825), section 3 and equation 94; MeanFlow (2505.13447) for
`target`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from alignflow import checks
from alignflow.draws import uniform
from alignflow.interpolants import (
    denoiser_from_velocity,
    expand_time,
    flow_map_from_average_velocity,
)
from alignflow.predictions import AverageVelocity, Prediction
from alignflow.regressions import SoftTarget

__all__ = ["ESD", "LSD", "PSD", "Learner", "Rule", "jvp"]

Jump = Callable[[Tensor, Tensor, Tensor], Tensor]
Field = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Learner:
    """The map in training, and the flow that it follows, under the conditions of a batch.

    Args:
        predict: A callable (x, s, t) -> the map's prediction, (N, *E).
        velocity: A callable (x, t) -> b_t(x), (N, *E): the map's diagonal, or a teacher's.
        denoiser: A callable (x, t) -> D_t(x), (N, *E), where the velocity is 0/0 at time 1.
        prediction: What is predicted.
    """

    predict: Jump
    velocity: Field
    denoiser: Field | None = None
    prediction: Prediction = AverageVelocity()

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """D_t(x), (N, *E), by the denoiser if there is one, or else by the velocity."""
        if self.denoiser is not None:
            return self.denoiser(x, t)
        return denoiser_from_velocity(x, t, self.velocity(x, t))


class Rule(Protocol):
    """A characterization of the flow map: `PSD`, `LSD` or `ESD`."""

    def __call__(
        self,
        learner: Learner,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor | SoftTarget]:
        """Prediction and target for jumps from states x at s to t, (N, *E) each."""
        ...

    def check(self, prediction: Prediction) -> None:
        """Refuse predictions that the rule cannot learn."""
        ...


class PSD:
    """Progressive self-distillation: one jump must equal two jumps through a time u between.

    For average velocities the residual is the semigroup's divided by t - s.

    Args:
        split: Where u lies between s and t: "uniform" or "midpoint".
        stop_gradient: "convex" or "none".
    """

    def __init__(self, split: str = "uniform", stop_gradient: str = "convex"):
        self.split = checks.choice("split", split, ("uniform", "midpoint"))
        self.stop_gradient = checks.choice("stop_gradient", stop_gradient, ("convex", "none"))

    def check(self, prediction: Prediction) -> None:
        """It learns any."""

    def __call__(
        self,
        learner: Learner,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor | SoftTarget]:
        """The prediction for s to t, and the semigroup's of two jumps, (N, *E) each."""
        fraction = torch.full_like(s, 0.5)
        if self.split == "uniform":
            fraction = uniform(s.shape, generator).to(s)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.stop_gradient == "none"):
            u = torch.lerp(s, t, fraction)
            target = learner.prediction.through(learner.predict, x, fraction, s, u, t)
        return learner.predict(x, s, t), target


class LSD:
    """Lagrangian self-distillation: the endpoint moves with the velocity at the endpoint.

    Args:
        stop_gradient: "convex", "target" or "none".
    """

    def __init__(self, stop_gradient: str = "convex"):
        choices = ("convex", "target", "none")
        self.stop_gradient = checks.choice("stop_gradient", stop_gradient, choices)

    def check(self, prediction: Prediction) -> None:
        """Refuse predictions that are no average velocities."""
        _check_velocity("LSD", prediction)

    def __call__(
        self,
        learner: Learner,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""The rate of the endpoint and the velocity there, (N, *E) each.

        With a learner's denoiser both are times 1-t and added to the endpoint, up to t = 1:

        .. math:: X_{s,t}(x) + (1-t)\, \partial_t X_{s,t}(x) = D_t(X_{s,t}(x))
        """
        value, derivative = self._average(learner.predict, x, s, t)
        end = flow_map_from_average_velocity(x, s, t, value)
        rate = value + expand_time(t - s, x) * derivative
        if learner.denoiser is None:
            return rate, self._taught(learner.velocity, end, t)
        return denoiser_from_velocity(end, t, rate), self._taught(learner.denoiser, end, t)

    def _average(self, average: Jump, x: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """v_{s,t} and its derivative in t."""
        stopped = self.stop_gradient == "target"
        with torch.set_grad_enabled(torch.is_grad_enabled() and not stopped):
            value, derivative = jvp(lambda t: average(x, s, t), (t,), (torch.ones_like(t),))
        return (average(x, s, t) if stopped else value), derivative

    def _taught(self, teacher: Field, end: Tensor, t: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.stop_gradient == "none"):
            return teacher(end, t)


class ESD:
    """Eulerian self-distillation: moving the start along the flow does not move the endpoint.

    With the velocity of the data pair in place of b, stopped as "target", this is MeanFlow.

    Args:
        stop_gradient: "convex", "target", "full" or "none". Equation 94 has "full"; on the
            checkerboard it diverged after 2,000 to 3,500 steps where the first two did not.
    """

    def __init__(self, stop_gradient: str = "convex"):
        choices = ("convex", "target", "full", "none")
        self.stop_gradient = checks.choice("stop_gradient", stop_gradient, choices)

    def check(self, prediction: Prediction) -> None:
        """Refuse predictions that are no average velocities."""
        _check_velocity("ESD", prediction)

    def __call__(
        self,
        learner: Learner,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """v_{s,t} less its derivative along the flow, and the velocity, (N, *E) each."""
        average, length = learner.predict, expand_time(t - s, x)
        one, stop = torch.ones_like(s), self.stop_gradient
        with torch.set_grad_enabled(torch.is_grad_enabled() and stop == "none"):
            b = learner.velocity(x, s)
        if stop == "full":
            with torch.no_grad():
                _, advection = jvp(lambda x: average(x, s, t), (x,), (b,))
            value, derivative = jvp(lambda s: average(x, s, t), (s,), (one,))
            return value - length * derivative, b + length * advection
        with torch.set_grad_enabled(torch.is_grad_enabled() and stop != "target"):
            value, derivative = jvp(lambda x, s: average(x, s, t), (x, s), (b, one))
        if stop == "target":
            value = average(x, s, t)
        return value - length * derivative, b


def _check_velocity(rule: str, prediction: Prediction) -> None:
    if not prediction.is_velocity:
        raise ValueError(
            f"{rule} differentiates average velocities, and {type(prediction).__name__} predicts "
            "something else: distil it with PSD"
        )


def jvp(function: Callable[..., Tensor], primals: tuple, tangents: tuple) -> tuple[Tensor, Tensor]:
    """A function's value and its derivative along tangents, by forward mode."""
    try:
        value, derivative = torch.func.jvp(function, primals, tangents)[:2]
        return value, derivative
    except (NotImplementedError, RuntimeError) as error:
        # what torch says of attention kernels and of autograd Functions without one
        if not any(sign in str(error) for sign in ("forward AD", "setup_context", "jvp")):
            raise
        raise NotImplementedError(
            "a layer of this network has no forward-mode derivative, which LSD and ESD need: "
            "distil with PSD, which takes none, or choose a kernel that has one (attention: "
            "torch.nn.attention.SDPBackend.MATH)"
        ) from error
