r"""The three characterizations of a flow map, each as a residual that vanishes at the exact map.

.. math::
    \text{PSD (semigroup)}\quad & X_{u,t}(X_{s,u}(x)) = X_{s,t}(x) \\
    \text{LSD (Lagrangian)}\quad & \partial_t X_{s,t}(x) = b_t(X_{s,t}(x)) \\
    \text{ESD (Eulerian)}\quad & \partial_s X_{s,t}(x) + \nabla X_{s,t}(x)\, b_s(x) = 0

A rule is called with the average velocity v(x, s, t) being trained, a velocity b(x, t) (the
model's own diagonal, or a teacher's), states (N, *E) and times (N,). What is *not* differentiated
is part of each rule, by the name of the placement:

    none     the plain consistency loss, everything differentiated
    convex   the teacher's evaluation is constant
    full     ESD: the whole advective derivative is constant
    target   all but v_{s,t} itself is constant; no derivative of a derivative is taken

Source: Boffi et al. 2025 (2505.18825), section 3 and equation 94; MeanFlow (2505.13447) for
`target`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from alignflow import checks
from alignflow.interpolants import expand_time, flow_map_from_average_velocity

__all__ = ["ESD", "LSD", "PSD"]

AverageVelocity = Callable[[Tensor, Tensor, Tensor], Tensor]
Velocity = Callable[[Tensor, Tensor], Tensor]


class PSD:
    """Progressive self-distillation: one jump must equal two jumps through a time u between.

    The residual is in average velocities, the semigroup's divided by t - s.

    Args:
        split: Where u lies between s and t: "uniform" or "midpoint".
        stop_gradient: "convex" or "none".
    """

    def __init__(self, split: str = "uniform", stop_gradient: str = "convex"):
        self.split = checks.choice("split", split, ("uniform", "midpoint"))
        self.stop_gradient = checks.choice("stop_gradient", stop_gradient, ("convex", "none"))

    def __call__(
        self,
        average: AverageVelocity,
        velocity: Velocity,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Residual (N, *E)."""
        share = torch.full_like(s, 0.5)
        if self.split == "uniform":
            share = torch.rand(s.shape, generator=generator).to(s)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.stop_gradient == "none"):
            u = torch.lerp(s, t, share)
            first = average(x, s, u)
            second = average(flow_map_from_average_velocity(x, s, u, first), u, t)
            teacher = torch.lerp(second, first, expand_time(share, x))
        return average(x, s, t) - teacher


class LSD:
    """Lagrangian self-distillation: the endpoint moves with the velocity found where it is.

    Args:
        stop_gradient: "convex", "target" or "none".
    """

    def __init__(self, stop_gradient: str = "convex"):
        choices = ("convex", "target", "none")
        self.stop_gradient = checks.choice("stop_gradient", stop_gradient, choices)

    def __call__(
        self,
        average: AverageVelocity,
        velocity: Velocity,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Residual (N, *E)."""
        value, slope = self._average(average, x, s, t)
        teacher = self._taught(velocity, flow_map_from_average_velocity(x, s, t, value), t)
        return value + expand_time(t - s, x) * slope - teacher

    def of_denoiser(
        self, average: AverageVelocity, denoiser: Velocity, x: Tensor, s: Tensor, t: Tensor
    ) -> Tensor:
        r"""The residual times 1-t, (N, *E), for a model that gives D_t, whose b_1 would be 0/0.

        .. math:: X_{s,t}(x) + (1-t)\, \partial_t X_{s,t}(x) - D_t(X_{s,t}(x))

        At t = 1 it is what remains of the rule: the endpoint of a jump is its own denoiser.

        Args:
            average: As of the rule itself.
            denoiser: D_t(x), (N, *E), of states (N, *E) and times (N,).
            x: States, (N, *E).
            s: Starts, (N,), below 1.
            t: Ends, (N,).
        """
        value, slope = self._average(average, x, s, t)
        end = flow_map_from_average_velocity(x, s, t, value)
        rate = value + expand_time(t - s, x) * slope
        return end + expand_time(1 - t, x) * rate - self._taught(denoiser, end, t)

    def _average(
        self, average: AverageVelocity, x: Tensor, s: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """v_{s,t} and its slope in t."""
        stopped = self.stop_gradient == "target"
        with torch.set_grad_enabled(torch.is_grad_enabled() and not stopped):
            value, slope = _jvp(lambda t: average(x, s, t), (t,), (torch.ones_like(t),))
        return (average(x, s, t) if stopped else value), slope

    def _taught(self, teacher: Velocity, end: Tensor, t: Tensor) -> Tensor:
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

    def __call__(
        self,
        average: AverageVelocity,
        velocity: Velocity,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Residual (N, *E), with the sign that makes v_{s,t} stand with a plus."""
        length, one, stop = expand_time(t - s, x), torch.ones_like(s), self.stop_gradient
        with torch.set_grad_enabled(torch.is_grad_enabled() and stop == "none"):
            b = velocity(x, s)
        if stop == "full":
            with torch.no_grad():
                _, advection = _jvp(lambda x: average(x, s, t), (x,), (b,))
            value, slope = _jvp(lambda s: average(x, s, t), (s,), (one,))
            return value - length * slope - (b + length * advection)
        with torch.set_grad_enabled(torch.is_grad_enabled() and stop != "target"):
            value, slope = _jvp(lambda x, s: average(x, s, t), (x, s), (b, one))
        if stop == "target":
            value = average(x, s, t)
        return value - length * slope - b


def _jvp(function: Callable[..., Tensor], primals: tuple, tangents: tuple) -> tuple[Tensor, Tensor]:
    try:
        value, slope = torch.func.jvp(function, primals, tangents)[:2]
        return value, slope
    except (NotImplementedError, RuntimeError) as error:
        # what torch says of attention kernels and of autograd Functions without one
        if not any(sign in str(error) for sign in ("forward AD", "setup_context", "jvp")):
            raise
        raise NotImplementedError(
            "a layer of this network has no forward-mode derivative, which LSD and ESD need: "
            "distil with PSD, which takes none, or choose a kernel that has one (attention: "
            "torch.nn.attention.SDPBackend.MATH)"
        ) from error
