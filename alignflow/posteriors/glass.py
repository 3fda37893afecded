r"""GLASS: exact draws of the posterior from the pretrained denoiser alone, by an inner flow.

Two independent looks at the same data point, x_t and the inner state y_u = u x_1 + (1-u) eps, are
one look at it at a later time: with a = t (1-u), b = u (1-t) and d = \sqrt{a^2 + b^2},

.. math::
    t^* = \frac{d}{d + (1-t)(1-u)}, \qquad
    x^* = \frac{\tfrac{a}{d} (1-u)\, x_t + \tfrac{b}{d} (1-t)\, y_u}{d + (1-t)(1-u)}, \qquad
    \frac{dy_u}{du} = \frac{D_{t^*}(x^*) - y_u}{1-u}

The inner flow carries noise y_0 to a draw y_1 of p(x1 | x_t), exactly as its steps get short.

Source: GLASS Flows (2509.25170), here in a form that divides by nothing that vanishes.
"""

import torch
from torch import Tensor

from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time

from .base import DrawnPosterior

__all__ = ["GLASSPosterior", "combined_look"]

# forwards of so many inner steps
INNER_SOLVERS = {"euler": lambda steps: steps, "heun": lambda steps: 2 * steps - 1}


def combined_look(
    x: Tensor, t: Tensor, y: Tensor, signal: Tensor, spread: Tensor
) -> tuple[Tensor, Tensor]:
    """The one look (x*, t*), (N, *E) and (N,), that two independent ones amount to.

    Args:
        x: t x_1 + (1-t) eps, (N, *E).
        t: (N,).
        y: signal x_1 + spread eps', (N, *E).
        signal: (N,).
        spread: (N,), positive.
    """
    a, b = t * spread, signal * (1 - t)
    d = torch.hypot(a, b)
    # at the very start neither look knows anything: then the second stands for both
    start = d == 0
    d_safe = torch.where(start, 1.0, d)
    of_x = torch.where(start, 0.0, a / d_safe) * spread
    of_y = torch.where(start, 1.0, b / d_safe) * (1 - t)
    total = d + (1 - t) * spread
    state = (expand_time(of_x, x) * x + expand_time(of_y, y) * y) / expand_time(total, x)
    return state, d / total


class GLASSPosterior(DrawnPosterior):
    """Draws by the inner flow of GLASS: exact as `inner_steps` grows.

    Args:
        model: The frozen flow map.
        draws: K, endpoints of each row.
        inner_steps: Steps of the inner flow.
        solver: "euler", or "heun" (two forwards a step but for the last).
    """

    def __init__(self, model: FlowMap, draws: int = 1, inner_steps: int = 8, solver: str = "euler"):
        super().__init__(model, draws)
        if inner_steps < 1:
            raise ValueError(f"inner_steps must be at least 1, got {inner_steps}")
        if solver not in INNER_SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(INNER_SOLVERS)}, got {solver!r}")
        self.inner_steps, self.solver = inner_steps, solver

    def forwards(self, draws):
        return draws * INNER_SOLVERS[self.solver](self.inner_steps)

    def forward(self, tensordict):
        noise = self.read(tensordict, "endpoint_noise")
        draws = noise.shape[1]
        x, t, condition = self.repeated(tensordict, draws)

        def velocity(y: Tensor, u: float) -> Tensor:
            inner = torch.full_like(t, u)
            state, time = combined_look(x, t, y, inner, 1 - inner)
            return (self.model.denoiser(state, time, condition) - y) / (1 - u)

        y, n = noise.flatten(0, 1), self.inner_steps
        for k in range(n):
            u, end = k / n, (k + 1) / n
            first = velocity(y, u)
            moved = y + (end - u) * first
            if self.solver == "heun" and k < n - 1:  # at u = 1 the velocity is 0/0
                moved = y + (end - u) * (first + velocity(moved, end)) / 2
            y = moved
        return self.write(tensordict, endpoint=y.unflatten(0, (-1, draws)))

    def extra_repr(self) -> str:
        return f"draws={self.draws}, inner_steps={self.inner_steps}, {self.solver}"
