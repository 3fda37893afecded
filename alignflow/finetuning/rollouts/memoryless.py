r"""Differentiable rollouts of the memoryless SDE of a flow.

.. math:: dx = \Big(2 b_\theta(x, t) - \frac{x}{t}\Big) dt + \sqrt{2 c_t}\, dW,
    \qquad c_t = \frac{1-t}{t}

The drift is the flow's plus :math:`c_t` times the score :math:`(t b - x)/(1-t)`, so the marginals
are the flow's. It is memoryless: the end is independent of the start. That is why a path KL
against it is minimized by the tilt of the endpoint and not by a tilt of the noise too.

Source: Domingo-Enrich et al. 2024 (2409.08861), section 4; the interpolant there is general.
"""

import torch
from torch import Tensor

from alignflow import checks
from alignflow.draws import normal, uniform
from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time
from alignflow.transitions.memoryless import memoryless_std, memoryless_step, step_coefficients

from .paths import Node, Path, check_rollout, graph, recomputed

__all__ = ["MemorylessRollout", "jittered_times", "kl_weight", "velocity_factor"]


class MemorylessRollout:
    r"""The memoryless SDE of a model, in steps that are exact for normal data of std d.

    Steps are `alignflow.transitions.memoryless.memoryless_step`. Their mean moves with the velocity
    by `velocity_factor`, which is :math:`2(t-s)` in the limit.

    Interior times are even and shifted together by up to half a gap, at random for each row, so
    that training meets all times but half a gap at either end.

    Args:
        jumps: Steps from the start to time 1. Few of them overstate the KL where the data is wider
            than d, and tilt too little.
        truncation: Last steps through which the gradient is backpropagated; None is all. The
            velocity of earlier steps is not trained.
        start: "path" or "noise". The optimum is the same: the optimal control at a state does not
            depend on how it was reached. From the path, all times are met with fewer jumps.
        recompute: As in `MapRollout`.
        data_std: d; None is the model's, `data_std`.
    """

    trains_velocity = True

    def __init__(
        self,
        jumps: int = 16,
        truncation: int | None = None,
        start: str = "path",
        recompute: bool = False,
        data_std: float | None = None,
    ):
        self.data_std = None if data_std is None else checks.positive("data_std", data_std)
        self.jumps, self.truncation = check_rollout(jumps, truncation, start)
        self.start, self.recompute = start, checks.flag("recompute", recompute)

    def __call__(
        self,
        model: FlowMap,
        x: Tensor,
        start: Tensor,
        condition=None,
        generator: torch.Generator | None = None,
    ) -> Path:
        """From states (N, *E) at times (N,) to endpoints, with the nodes of the path KL."""
        times = jittered_times(start, self.jumps, generator)
        std = model.data_std if self.data_std is None else self.data_std
        noise = normal((self.jumps - 1, *x.shape), generator, x.dtype, x.device).unbind()

        def run(model: FlowMap) -> tuple[Tensor, list[Node]]:
            y, nodes = x, []
            for k in range(self.jumps):
                live = self.jumps - k <= self.truncation
                with graph(live):
                    velocity = recomputed(model.velocity, self.recompute)(y, times[k], condition)
                    if live:
                        weight = kl_weight(times[k], times[k + 1], std)
                        nodes.append(Node(y, times[k], velocity, weight))
                    y, step_std = memoryless_step(y, velocity, times[k], times[k + 1], std)
                    if k < self.jumps - 1:
                        y = y + expand_time(step_std, y) * noise[k]
            return y, nodes

        endpoint, nodes = run(model)
        return Path(endpoint, replay=lambda model: run(model)[0], nodes=nodes)


def jittered_times(start: Tensor, jumps: int, generator: torch.Generator | None) -> list[Tensor]:
    """Times (N,) from a start (N,) to 1, the inner ones shifted together by up to half a gap."""
    shift = (uniform(start.shape, generator, device=start.device) - 0.5).to(start)
    inner = [(k + shift) / jumps for k in range(1, jumps)]
    times = (start + fraction * (1 - start) for fraction in inner)
    return [start, *times, torch.ones_like(start)]


def velocity_factor(s: Tensor, t: Tensor) -> Tensor:
    """f, (N,), by which the mean of the step from s to t moves with the velocity."""
    return step_coefficients(s, t, memoryless_std(s, t), 0.0)[2]


def kl_weight(s: Tensor, t: Tensor, data_std: float) -> Tensor:
    r"""Weight of :math:`|b_\theta - b|^2` at s in the KL of the step from s to t, (N,).

    Both models' steps are Gaussians of one variance S, so their KL is
    :math:`f^2 |b_\theta - b|^2 / (2 S)`; this is it, with S multiplied out. In the limit it
    is :math:`(t-s)/c_s`. For normal data of this std and a linear reward the optimum of the steps
    is the tilted velocity at every node, whatever their number; in general it is so to first order.
    """
    ratio = _variance(s, data_std) / _variance(t, data_std)
    return t**2 * (1 - _correlation(s, t) ** 2) / 2 * ratio


def _correlation(s: Tensor, t: Tensor) -> Tensor:
    """r, of the noise in x_s with that in x_t."""
    return s * (1 - t) / (t * (1 - s))


def _variance(t: Tensor, data_std: float) -> Tensor:
    """At time t of the path to normal data."""
    return (data_std * t) ** 2 + (1 - t) ** 2
