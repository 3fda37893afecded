r"""GLASS: exact draws of the posterior from the pretrained denoiser alone, by an inner flow.

Two independent observations of one data point, x_t and the inner state
y_w = w x_1 / c + (1-w) eps, are equivalent to one at a later time: with a = t (1-w),
b = (1-t) w / c and d = \sqrt{a^2 + b^2},

.. math::
    t^* = \frac{d}{d + (1-t)(1-w)}, \qquad
    x^* = \frac{\tfrac{a}{d} (1-w)\, x_t + \tfrac{b}{d} (1-t)\, y_w}{d + (1-t)(1-w)}, \qquad
    \frac{dy_w}{dw} = \frac{D_{t^*}(x^*) / c - y_w}{1-w}

The inner flow carries noise y_0 to a draw c y_1 of p(x1 | x_t), exactly as its steps get short. The
unit c does not matter to that, but to how many steps it takes: in one of the size of the posterior
the inner flow looks the same at every t, while with c = 1 late posteriors, which are narrow, come
out of the last step too narrow.

Source: GLASS Flows (2509.25170) for c = 1, here in a form that divides by nothing that vanishes.
"""

from typing import Any

import torch
from torch import Tensor

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time

from .base import DrawnPosterior

__all__ = ["INNER_SOLVERS", "GLASSPosterior", "check_inner", "combined_look", "inner_flow"]

INNER_SOLVERS = ("euler", "heun")


def combined_look(
    x: Tensor, t: Tensor, y: Tensor, signal: Tensor, std: Tensor
) -> tuple[Tensor, Tensor]:
    """The one observation (x*, t*), (N, *E) and (N,), equivalent to two independent ones.

    Args:
        x: t x_1 + (1-t) eps, (N, *E).
        t: (N,).
        y: signal x_1 + std eps', (N, *E).
        signal: (N,).
        std: (N,), positive.
    """
    a, b = t * std, signal * (1 - t)
    d = torch.hypot(a, b)
    # at the very start neither observation has any signal: take the second
    start = d == 0
    d_safe = torch.where(start, 1.0, d)
    of_x = torch.where(start, 0.0, a / d_safe) * std
    of_y = torch.where(start, 1.0, b / d_safe) * (1 - t)
    total = d + (1 - t) * std
    state = (expand_time(of_x, x) * x + expand_time(of_y, y) * y) / expand_time(total, x)
    return state, d / total


def inner_flow(
    model: FlowMap,
    x: Tensor,
    t: Tensor,
    noise: Tensor,
    signal: Tensor,
    std: Tensor,
    condition: Any = None,
    steps: int = 4,
    solver: str = "heun",
) -> Tensor:
    """Draws of signal x_1 + std eps given x_t, (N, *E).

    Args:
        model: Gives the denoiser.
        x: State at time t, (N, *E).
        t: (N,).
        noise: Standard normal, (N, *E).
        signal: (N,), positive.
        std: (N,), at least 0; with signal 1 and std 0 the draws are of the posterior.
        condition: Of the model.
        steps: Of the flow.
        solver: One of INNER_SOLVERS.
    """
    gap = (1 - t).clamp_min(torch.finfo(t.dtype).eps)
    unit = gap / torch.hypot(t, gap)  # std of the posterior if data were standard normal
    end = unit * signal / (unit * signal + std)

    def velocity(y: Tensor, w: Tensor) -> Tensor:
        state, time = combined_look(x, t, y, w / unit, 1 - w)
        denoiser = model.denoiser(state, time, condition)
        return (denoiser / expand_time(unit, x) - y) / expand_time(1 - w, x)

    y, step = noise, expand_time(end / steps, x)
    for k in range(steps):
        first = velocity(y, end * k / steps)
        moved = y + step * first
        if solver == "heun" and k < steps - 1:  # at the end of a posterior's flow it is 0/0
            moved = y + step * (first + velocity(moved, end * (k + 1) / steps)) / 2
        y = moved
    return y * expand_time(std + unit * signal, x)


def check_inner(steps: int, solver: str) -> tuple[int, str]:
    """Inner steps and a solver that there are; others are refused."""
    return checks.count("inner_steps", steps), checks.choice("solver", solver, INNER_SOLVERS)


class GLASSPosterior(DrawnPosterior):
    """Draws by the inner flow of GLASS: exact as `inner_steps` grows.

    Args:
        model: The frozen flow map.
        draws: K, endpoints of each row.
        inner_steps: Steps of the inner flow.
        solver: "heun" (two forwards a step but for the last), or "euler". On the ring and on an 8-D
            mixture 4 steps of the one, 7 forwards, are at the sampling floor, where 8 of the other
            are not.
    """

    def __init__(self, model: FlowMap, draws: int = 1, inner_steps: int = 4, solver: str = "heun"):
        super().__init__(model, draws)
        self.inner_steps, self.solver = check_inner(inner_steps, solver)

    def forward(self, tensordict):
        noise = self.read(tensordict, "endpoint_noise")
        draws = noise.shape[1]
        x, t, condition = self.repeated(tensordict, draws)

        one, none = torch.ones_like(t), torch.zeros_like(t)
        flat, how = noise.flatten(0, 1), (self.inner_steps, self.solver)
        endpoint = inner_flow(self.model, x, t, flat, one, none, condition, *how)
        return self.write(tensordict, endpoint=endpoint.unflatten(0, (-1, draws)))

    def extra_repr(self) -> str:
        return f"draws={self.draws}, inner_steps={self.inner_steps}, {self.solver}"
