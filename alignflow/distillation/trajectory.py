r"""The endpoints of the flow's ODE, solved in steps, as targets of the jumps.

.. math:: \delta_{s,t}(x) = \int_s^t D_u(X_{s,u}(x))\, w_u\, du, \qquad
    w_u = \tfrac{(1-s)(1-t)}{(t-s)(1-u)^2}

A mean denoiser is the mean of the denoiser along the path. Each step takes the denoiser of its
middle as constant, which is exact up to time 1, and adds it to the mean by the semigroup's weights,
so that targets on the simplex stay there.

Source: direct distillation, Luhman and Luhman 2021 (2101.02388).
"""

import torch
from torch import Tensor

from alignflow import checks
from alignflow.interpolants import expand_time, flow_map_from_mean_denoiser
from alignflow.predictions import Prediction
from alignflow.simplex import semigroup_weight

from .rules import Learner

__all__ = ["Trajectory"]


class Trajectory:
    """One jump must equal many steps of the ODE: a teacher's flow, or the model's by its diagonal.

    With a teacher that is exact and cheap, as `Sequences` are, targets have no noise and no error
    of the model in them; learning from itself costs two evaluations a step of the ODE, and `PSD`
    two in all.

    Args:
        steps: Of the ODE, by the midpoint rule.
    """

    def __init__(self, steps: int = 5):
        self.steps = checks.count("steps", steps)

    def check(self, prediction: Prediction) -> None:
        """It learns any."""

    def __call__(
        self,
        learner: Learner,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The prediction for s to t, and that of the ODE's endpoint, (N, *E) each."""
        with torch.no_grad():
            mean = self._mean_denoiser(learner, x, s, t)
            velocity = (mean - x) / expand_time(1 - s, x)
            target = learner.prediction.target(velocity, x, s)
        return learner.predict(x, s, t), target

    def _mean_denoiser(self, learner: Learner, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """delta_{s,t}(x), (N, *E)."""
        mean, state, start = torch.zeros_like(x), x, s
        for step in range(self.steps):
            end = torch.lerp(s, t, (step + 1) / self.steps)
            middle = (start + end) / 2
            first = learner.denoise(state, start)
            halfway = flow_map_from_mean_denoiser(state, start, middle, first)
            along = learner.denoise(halfway, middle)
            mean = torch.lerp(along, mean, expand_time(semigroup_weight(s, start, end), x).to(x))
            state = flow_map_from_mean_denoiser(state, start, end, along)
            start = end
        return mean
