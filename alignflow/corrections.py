r"""Corrections: how a value gradient g moves the base velocity, b* = b + correction.

.. math::
    c_t \, g,\; c_t = \frac{1-t}{t} \qquad
    \frac{\eta}{t'-t} \, g \qquad \kappa |b| \frac{g}{|g|}

The first is the tilt's own, if g is grad V_t. The second adds eta g in every step and the third
keeps only the direction of g: they seek reward, and what they sample is not the tilt.
"""

import math

import torch
from torch import Tensor

from alignflow.graph import Node
from alignflow.interpolants import expand_time

__all__ = ["Ascent", "Normalized", "Tilt", "normalized", "tilt_coefficient"]


def tilt_coefficient(t: Tensor) -> Tensor:
    """c_t = (1-t)/t, (N,), for t > 0.

    Raises:
        ValueError: If some t is 0, where it diverges.
    """
    if (t <= 0).any():
        raise ValueError(
            "c_t = (1-t)/t diverges at time 0: steer from a stated t_min > 0 on, "
            "and let the base flow run until then"
        )
    return (1 - t) / t


def normalized(gradient: Tensor, velocity: Tensor, scale: float) -> Tensor:
    """kappa |b| g/|g| of each sample (N, *E); 0 where the gradient is."""
    shape = (-1, *[1] * (gradient.ndim - 1))
    length = gradient.flatten(1).norm(dim=1).reshape(shape)
    speed = velocity.flatten(1).norm(dim=1).reshape(shape)
    return torch.where(length > 0, scale * speed * gradient / length, 0.0)


class Tilt(Node):
    """c_t g: what turns b_t into the tilted velocity when g is the gradient of the value."""

    reads = ("time", "value_gradient")
    writes = ("correction",)

    def forward(self, tensordict):
        gradient = self.read(tensordict, "value_gradient")
        coefficient = tilt_coefficient(self.read(tensordict, "time"))
        return self.write(tensordict, correction=expand_time(coefficient, gradient) * gradient)


class Ascent(Node):
    """g times a step size in every step, however long the step.

    Args:
        step_size: eta, squared units of state (per unit of lambda r).
    """

    reads = ("step_length", "value_gradient")
    writes = ("correction",)

    def __init__(self, step_size: float):
        super().__init__()
        if not 0 <= step_size < math.inf:
            raise ValueError(f"step_size must be finite and not negative, got {step_size}")
        self.step_size = step_size

    def forward(self, tensordict):
        gradient = self.read(tensordict, "value_gradient")
        length = expand_time(self.read(tensordict, "step_length"), gradient)
        correction = self.step_size * gradient / length
        return self.write(tensordict, correction=correction)

    def extra_repr(self) -> str:
        return f"step_size={self.step_size:g}"


class Normalized(Node):
    """kappa |b| g/|g|: the direction of g alone, at a set share of the base's speed.

    Whatever the strength, the correction is as long; a stabilizer, not a way to the tilt.

    Args:
        scale: kappa, without unit.
    """

    reads = ("velocity", "value_gradient")
    writes = ("correction",)

    def __init__(self, scale: float = 1.0):
        super().__init__()
        if not 0 <= scale < math.inf:
            raise ValueError(f"scale must be finite and not negative, got {scale}")
        self.scale = scale

    def forward(self, tensordict):
        gradient, velocity = (self.read(tensordict, k) for k in ("value_gradient", "velocity"))
        return self.write(tensordict, correction=normalized(gradient, velocity, self.scale))

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"
