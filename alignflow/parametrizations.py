r"""Parametrizations: what a network of two times predicts, and how a flow map follows from it.

.. math:: X_{s,t}(x) = x + (t-s)\, v_{s,t}(x), \qquad \delta_{s,t}(x) = x + (1-s)\, v_{s,t}(x)
"""

from typing import Protocol

from torch import Tensor

from alignflow import predictions, simplex
from alignflow.interpolants import (
    average_velocity_from_mean_denoiser,
    flow_map_from_average_velocity,
    flow_map_from_mean_denoiser,
    mean_denoiser_from_average_velocity,
)

__all__ = ["PARAMETRIZATIONS", "Parametrization"]


class Parametrization(Protocol):
    """What follows from the output (N, *E) of a network at states (N, *E) and times s, t (N,).

    Attributes:
        prediction: How losses regress it.
    """

    prediction: predictions.Prediction

    def flow_map(self, x: Tensor, s: Tensor, t: Tensor, output: Tensor) -> Tensor:
        """X_{s,t}(x), (N, *E)."""
        ...

    def average_velocity(self, x: Tensor, s: Tensor, output: Tensor) -> Tensor:
        """v_{s,t}(x), (N, *E)."""
        ...

    def mean_denoiser(self, x: Tensor, s: Tensor, output: Tensor) -> Tensor:
        """delta_{s,t}(x), (N, *E)."""
        ...


class AverageVelocity:
    """The network predicts v_{s,t}."""

    prediction: predictions.Prediction = predictions.AverageVelocity()

    def flow_map(self, x: Tensor, s: Tensor, t: Tensor, output: Tensor) -> Tensor:
        return flow_map_from_average_velocity(x, s, t, output)

    def average_velocity(self, x: Tensor, s: Tensor, output: Tensor) -> Tensor:
        return output

    def mean_denoiser(self, x: Tensor, s: Tensor, output: Tensor) -> Tensor:
        return mean_denoiser_from_average_velocity(x, s, output)


class MeanDenoiser:
    """The network predicts delta_{s,t}; the average velocity is a quotient, 0/0 at s = 1."""

    prediction: predictions.Prediction = predictions.MeanDenoiser()

    def flow_map(self, x: Tensor, s: Tensor, t: Tensor, output: Tensor) -> Tensor:
        return flow_map_from_mean_denoiser(x, s, t, output)

    def average_velocity(self, x: Tensor, s: Tensor, output: Tensor) -> Tensor:
        return average_velocity_from_mean_denoiser(x, s, output)

    def mean_denoiser(self, x: Tensor, s: Tensor, output: Tensor) -> Tensor:
        return output


class Simplex:
    """The network predicts logits z_{s,t}, and delta_{s,t} = softmax(z) over the last axis."""

    prediction: predictions.Prediction = simplex.Logits()

    def flow_map(self, x: Tensor, s: Tensor, t: Tensor, output: Tensor) -> Tensor:
        return self.prediction.jump(output, x, s, t)

    def average_velocity(self, x: Tensor, s: Tensor, output: Tensor) -> Tensor:
        return average_velocity_from_mean_denoiser(x, s, output.softmax(-1))

    def mean_denoiser(self, x: Tensor, s: Tensor, output: Tensor) -> Tensor:
        return output.softmax(-1)


PARAMETRIZATIONS: dict[str, Parametrization] = {
    "average_velocity": AverageVelocity(),
    "mean_denoiser": MeanDenoiser(),
    "simplex": Simplex(),
}
