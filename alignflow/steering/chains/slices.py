r"""Elliptical slice sampling of the noise: no step size, and always a move in the end.

.. math:: x_0' = x_0 \cos\theta + \nu \sin\theta, \qquad \nu \sim N(0, I)

The angle is drawn from a bracket of a full turn, which shrinks towards 0 with each point whose
log-weight is below a level drawn once, log u + lambda r. Each row shrinks by itself. The density of
a move by way of given rejected angles is that of the move back by way of the same ones, so that a
row may also give up after so many tries and stay: the target is still invariant.

Source: Murray, Adams and MacKay 2010; for flows ESS-Flow (2510.05849).
"""

import math

import torch
from tensordict import TensorDictBase

from alignflow import draws
from alignflow.graph import Node, noise_like
from alignflow.interpolants import expand_time
from alignflow.tilt import Tilt

from .acceptance import SourceAcceptance, strength_of_rows

__all__ = ["Ellipse", "SliceAcceptance"]


class Ellipse(Node):
    """The next point on the ellipse through the noise: the first of a step, or after a rejection.

    Args:
        tilt: Weighs the samples.
    """

    reads = (
        "state",
        "source",
        "reward",
        "tilt_fraction",
        "angle_noise",
        "level_noise",
        "step_noise",
    )
    optional = ("angle", "bracket")
    writes = ("sample", "state", "time", "angle", "bracket", "level")
    noise = ("angle_noise", "level_noise", "step_noise")
    whole_batch = True

    def __init__(self, tilt: Tilt):
        super().__init__()
        self.tilt = tilt

    def draw(self, tensordict: TensorDictBase, generator: torch.Generator | None = None) -> None:
        source = self.read(tensordict, "source")

        def uniform():
            return draws.uniform(source.shape[:1], generator, torch.float64, source.device)

        self.write(tensordict, angle_noise=uniform())
        if self.read(tensordict, "angle") is None:
            noise = noise_like(source, generator=generator)
            self.write(tensordict, level_noise=uniform(), step_noise=noise)

    def forward(self, tensordict):
        sample, source, reward, fraction, uniform, level, noise = (
            self.read(tensordict, key) for key in self.reads
        )
        angle, bracket = self.read(tensordict, "angle"), self.read(tensordict, "bracket")
        if angle is None:
            turn = 2 * math.pi
            angle = turn * uniform
            bracket = torch.stack([angle - turn, angle], 1)
        else:
            low, high = bracket.unbind(1)
            low, high = torch.where(angle < 0, angle, low), torch.where(angle < 0, high, angle)
            angle = low + (high - low) * uniform
            bracket = torch.stack([low, high], 1)
        log_weight = strength_of_rows(self.tilt.log_weight(reward).double(), fraction.double())
        wide = expand_time(angle.to(source), source)
        return self.write(
            tensordict,
            sample=sample,
            state=source * wide.cos() + noise * wide.sin(),
            time=source.new_zeros(len(source)),
            angle=angle,
            bracket=bracket,
            level=level.log() + log_weight,
        )


class SliceAcceptance(SourceAcceptance):
    """Accepts a point at or above the level."""

    reads = (
        "sample",
        "reward",
        "endpoint",
        "endpoint_reward",
        "tilt_fraction",
        "state",
        "source",
        "level",
    )
    writes = ("state", "reward", "time", "accepted", "source")
    noise = ()

    def draw(self, tensordict: TensorDictBase, generator: torch.Generator | None = None) -> None:
        """Nothing: the level is drawn with the ellipse."""

    def forward(self, tensordict):
        _, proposed = self.log_weights(tensordict)
        accepted = proposed[:, 0] >= self.read(tensordict, "level")
        return self.moved(tensordict, accepted, torch.zeros_like(accepted, dtype=torch.long))
