r"""Preconditioned Crank-Nicolson moves of the noise, with or without the reward's gradient.

.. math:: x_0' = \rho\,x_0 + (1-\rho)\,g(x_0) + b\,\nu, \qquad \rho = \sqrt{1-b^2}, \quad
    \nu \sim N(0, I)

Without g the move is reversible for N(0, I), in any dimension, and is accepted by the tilt alone.
With g, the gradient of lambda r(X_{0,1}(x_0)), it is Langevin's (pCNL), and the acceptance has the
ratio of the two moves,

.. math:: \frac{1}{2b^2} \big[ 2\,(x_0 - \rho x_0') \cdot m' - |m'|^2
    - 2\,(x_0' - \rho x_0) \cdot m + |m|^2 \big], \qquad m = (1-\rho)\,g

Source: Cotter, Roberts, Stuart and White 2013; for flow maps Psi-Sampler (2506.01320).
"""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow import checks, draws
from alignflow.graph import Node, noise_like
from alignflow.interpolants import expand_time

__all__ = ["CrankNicolson", "MoveRatio", "move_log_ratio"]

SMALLEST = 1e-3  # of the steps that are drawn: 0 would be no move


def move_log_ratio(
    old: Tensor, new: Tensor, drift: Tensor, back: Tensor, step_size: Tensor
) -> Tensor:
    """Log of N(x_0') q(x_0 | x_0') / (N(x_0) q(x_0' | x_0)), (B,).

    Args:
        old: x_0, (B, *E).
        new: x_0', (B, *E).
        drift: g at the old, (B, *E).
        back: g at the new, (B, *E).
        step_size: b, (B,).
    """
    wide = expand_time(step_size, old)
    rho = (1 - wide.square()).sqrt()

    def term(start: Tensor, end: Tensor, gradient: Tensor) -> Tensor:
        mean = (1 - rho) * gradient
        return (mean * (2 * (end - rho * start) - mean)).flatten(1).double().sum(1)

    return (term(new, old, back) - term(old, new, drift)) / (2 * step_size.double().square())


class CrankNicolson(Node):
    """Moves the noise of a sample; `step_size` b of 1 forgets it.

    Args:
        step_size: b; None draws it evenly from (0, 1) for each move.
    """

    reads = ("state", "source", "step_noise", "size_noise", "tilt_fraction")
    optional = ("source_gradient", "reach")
    writes = ("sample", "state", "time", "step_size")
    noise = ("step_noise", "size_noise")
    whole_batch = True

    def __init__(self, step_size: float | None = None):
        super().__init__()
        self.step_size = (
            None if step_size is None else checks.fraction("step_size", step_size, zero=False)
        )

    def draw(self, tensordict: TensorDictBase, generator: torch.Generator | None = None) -> None:
        source = self.read(tensordict, "source")
        uniform = draws.uniform(source.shape[:1], generator, source.dtype, source.device)
        self.write(tensordict, size_noise=(1 - uniform).clamp_min(SMALLEST))
        self.write(tensordict, step_noise=noise_like(source, generator=generator))

    def forward(self, tensordict):
        sample, source, noise, size, fraction = (self.read(tensordict, key) for key in self.reads)
        reach = self.read(tensordict, "reach")
        if self.step_size is not None:
            size = torch.full_like(size, self.step_size)
        elif reach is not None:
            size = (size ** (-reach).exp()).clamp_min(SMALLEST)
        wide = expand_time(size, source)
        rho = (1 - wide.square()).sqrt()
        moved = rho * source + wide * noise
        gradient = self.read(tensordict, "source_gradient")
        if gradient is not None:
            moved = moved + (1 - rho) * expand_time(fraction, source) * gradient
        time = torch.zeros_like(size)
        return self.write(tensordict, sample=sample, state=moved, time=time, step_size=size)

    def extra_repr(self) -> str:
        size = "in (0, 1)" if self.step_size is None else f"{self.step_size:g}"
        return f"step_size {size}"


class MoveRatio(Node):
    """The ratio of a move along the gradient and the move back."""

    reads = ("state", "source", "value_gradient", "source_gradient", "step_size", "tilt_fraction")
    writes = ("log_ratio",)

    def forward(self, tensordict):
        new, old, back, drift, size, fraction = (self.read(tensordict, key) for key in self.reads)
        wide = expand_time(fraction, old)
        log_ratio = move_log_ratio(old, new, wide * drift, wide * back, size)
        return self.write(tensordict, log_ratio=log_ratio)
