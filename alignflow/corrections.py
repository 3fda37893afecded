r"""Corrections: how a value gradient g moves the base velocity, b* = b + correction.

.. math::
    c_t \, g,\; c_t = \frac{1-t}{t} \qquad \kappa (1-t) \, g \qquad
    \frac{\eta}{t'-t} \, g \qquad \eta \, g

The first gives the tilted velocity, if g is grad V_t. The second is the first for a value that is
ramped by t, for proposals of weighted particles. The third adds eta g in every step and the fourth
eta g over the whole path: they ascend the reward. `Normalized` and `Clipped` come after another one
and change its length; what is sampled then is not the tilt.
"""

import torch
from torch import Tensor

from alignflow import checks
from alignflow.graph import Node
from alignflow.interpolants import expand_time

__all__ = [
    "Ascent",
    "Clipped",
    "Drift",
    "Normalized",
    "Ramped",
    "TiltCorrection",
    "normalized",
    "tilt_coefficient",
]


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


def normalized(move: Tensor, velocity: Tensor, scale: float) -> Tensor:
    """kappa |b| m/|m| of each sample (N, *E); 0 where the move m is."""
    length = _length(move)
    return torch.where(length > 0, scale * _length(velocity) * move / length, 0.0)


class TiltCorrection(Node):
    """c_t g, which makes b_t the tilted velocity if g is the gradient of the value.

    For times above 0, which a steerer ensures by its t_min.
    """

    reads = ("time", "value_gradient")
    writes = ("correction",)

    def forward(self, tensordict):
        gradient = self.read(tensordict, "value_gradient")
        time = self.read(tensordict, "time")
        coefficient = (1 - time) / time
        return self.write(tensordict, correction=expand_time(coefficient, gradient) * gradient)


class _Scaled(Node):
    """A correction with a scale.

    Args:
        scale: kappa, without unit.
    """

    writes = ("correction",)

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = checks.nonnegative("scale", scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"


class _Stepped(Node):
    """A correction with a step size.

    Args:
        step_size: eta, squared units of state (per unit of lambda r).
    """

    writes = ("correction",)

    def __init__(self, step_size: float):
        super().__init__()
        self.step_size = checks.nonnegative("step_size", step_size)

    def extra_repr(self) -> str:
        return f"step_size={self.step_size:g}"


class Ramped(_Scaled):
    """(1-t) g times a scale: c_t times the gradient of t V, finite on the whole path.

    Args:
        scale: kappa, without unit.
    """

    reads = ("time", "value_gradient")

    def forward(self, tensordict):
        gradient = self.read(tensordict, "value_gradient")
        factor = self.scale * (1 - self.read(tensordict, "time"))
        return self.write(tensordict, correction=expand_time(factor, gradient) * gradient)


class Ascent(_Stepped):
    """g times a step size in every step, however long the step.

    Args:
        step_size: eta, squared units of state (per unit of lambda r).
    """

    reads = ("step_length", "value_gradient")

    def forward(self, tensordict):
        gradient = self.read(tensordict, "value_gradient")
        length = expand_time(self.read(tensordict, "step_length"), gradient)
        correction = self.step_size * gradient / length
        return self.write(tensordict, correction=correction)


class Drift(_Stepped):
    """g times a step size in unit time, however many the steps.

    Args:
        step_size: eta, squared units of state (per unit of lambda r).
    """

    reads = ("value_gradient",)

    def forward(self, tensordict):
        gradient = self.read(tensordict, "value_gradient")
        return self.write(tensordict, correction=self.step_size * gradient)


class Normalized(_Scaled):
    """A correction as long as a fraction of the velocity, whatever its length was.

    A stabilizer: the strength cancels, so that it does not target the tilt.

    Args:
        scale: kappa, without unit.
    """

    reads = ("velocity", "correction")

    def forward(self, tensordict):
        correction, velocity = (self.read(tensordict, k) for k in ("correction", "velocity"))
        return self.write(tensordict, correction=normalized(correction, velocity, self.scale))


class Clipped(Normalized):
    """A correction that is never longer than a fraction of the velocity."""

    def forward(self, tensordict):
        correction, velocity = (self.read(tensordict, k) for k in ("correction", "velocity"))
        limit = normalized(correction, velocity, self.scale)
        shorter = _length(limit) < _length(correction)
        return self.write(tensordict, correction=torch.where(shorter, limit, correction))


def _length(x: Tensor) -> Tensor:
    """|x| of each sample, to stand beside samples (N, *E)."""
    return x.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))
