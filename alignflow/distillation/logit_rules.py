r"""The Lagrangian and Eulerian rules of logits, each as a distribution that they are regressed on.

.. math::
    \text{LSD}\quad & T \propto \frac{D_t(X_{s,t}(x))}{1 + c\, d}, \qquad
        c = \tfrac{(t-s)(1-t)}{1-s}, \quad d = \partial_t \log \delta_{s,t}(x) \\
    \text{ESD}\quad & T \propto \frac{D_s(x)}{(1-t) - (1-s)(t-s)\, d}, \qquad
        d = \partial_s \log \delta_{s,t}(x) + \nabla \log \delta_{s,t}(x)\, b_s(x)

d is the change of the logits less its mean under delta. The denominators are positive at the exact
map, and clamped: that of LSD goes to 0 for tokens that are ruled out at t, which makes PSD the
better choice. Targets are constant.

Source: Discrete Flow Maps (2604.09784).
"""

import torch
from torch import Tensor

from alignflow.interpolants import expand_time
from alignflow.predictions import Prediction

from .rules import Learner, jvp

__all__ = ["LogitESD", "LogitLSD"]

# smallest value of a denominator, as a fraction of its value where delta does not change
LEAST = 1e-3


class _OfLogits:
    """What the two rules share: the predictions that they can learn."""

    def check(self, prediction: Prediction) -> None:
        """Refuse predictions that are no logits."""
        if not prediction.is_logits:
            raise ValueError(
                f"{type(self).__name__} learns logits, and {type(prediction).__name__} predicts "
                'something else: parametrization="simplex" does'
            )


class LogitLSD(_OfLogits):
    """Lagrangian self-distillation of logits: the denoiser at the endpoint, brought back to it."""

    def __call__(
        self,
        learner: Learner,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The logits for s to t, and their target, (N, *E) each."""
        with torch.no_grad():
            one = torch.ones_like(t)
            logits, change = jvp(lambda t: learner.predict(x, s, t), (t,), (one,))
            taught = learner.denoise(learner.prediction.jump(logits, x, s, t), t)
            factor = expand_time((t - s) * (1 - t) / (1 - s), x)
            denominator = (1 + factor * _centered(logits, change)).clamp(min=LEAST)
            target = _normalized(taught / denominator)
        return learner.predict(x, s, t), target


class LogitESD(_OfLogits):
    """Eulerian self-distillation of logits: the denoiser at the start, carried along the flow."""

    def __call__(
        self,
        learner: Learner,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The logits for s to t, and their target, (N, *E) each."""
        with torch.no_grad():
            taught, left = learner.denoise(x, s), expand_time(1 - t, x)
            velocity = (taught - x) / (1 - expand_time(s, x))
            along = velocity, torch.ones_like(s)
            logits, change = jvp(lambda x, s: learner.predict(x, s, t), (x, s), along)
            factor = expand_time((1 - s) * (t - s), x)
            denominator = left - factor * _centered(logits, change)
            least = LEAST * left.clamp(min=torch.finfo(x.dtype).eps)
            target = _normalized(taught / torch.maximum(denominator, least))
        return learner.predict(x, s, t), target


def _centered(logits: Tensor, change: Tensor) -> Tensor:
    """The derivative of log softmax, of that of the logits."""
    return change - (logits.softmax(-1) * change).sum(-1, keepdim=True)


def _normalized(mass: Tensor) -> Tensor:
    mass = mass.clamp(min=0)
    return mass / mass.sum(-1, keepdim=True)
