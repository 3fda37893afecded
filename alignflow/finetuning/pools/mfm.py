r"""Meta Flow Map fine-tuning: one draw of the posterior a state, off any path, without a bias.

.. math:: R = e^{\lambda r(z)}, \quad z \sim p(x_1 | x_t), \qquad
    \text{target} = b - (R - 1)(b_\theta - b) + c_t \nabla_{x_t} R, \quad c_t = \frac{1-t}{t}

Its mean is b_theta where E[R | x_t] (b_theta - b) = c_t grad E[R | x_t], which is the tilted
velocity b + c_t grad V_t: one draw is enough, although V_t is the logarithm of a mean. R is divided
by its mean over the pool of candidates, which changes nothing but keeps it near 1.

Where modes lie apart the mean of c_t grad R is made by rare states between their basins, where the
draw's gradient is huge; elsewhere it is next to nothing. There the form without a gradient is the
one that works, whose target is b_theta + R (d - b_theta) with d = (z - x_t) / (1-t). It takes no
control variate, as `TiltMatching` does: the error of a draw, however small, would be divided by
E[R | x_t], which is next to nothing where rewards are poor, and the velocity would diverge there.

Both forms have one mean at any b_theta, since their difference R (d - b) - c_t grad R has mean 0:
`MixedEstimator` takes the fraction of each that has the least variance.

Sources: Meta Flow Maps (2601.14430), equation 43, with the schedule c_t and not a constant; Reverse
Flow Matching (2601.08136) for the mixture.
"""

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.finetuning.mixed import MixedEstimator, as_mixed, fraction_of
from alignflow.finetuning.problem import Problem
from alignflow.finetuning.tuner import check_reward
from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time
from alignflow.modules import set_unregistered
from alignflow.posteriors import DrawnPosterior, GLASSPosterior, StochasticMapPosterior
from alignflow.reward_module import RewardError
from alignflow.settings import option
from alignflow.values import score_endpoints

from .velocity_matching import PathBatch, VelocityMatching, VelocityMatchingTuner

__all__ = ["MFM"]


def _value(name: str, value: Any) -> str | MixedEstimator:
    return as_mixed(name, value, ("gradient", "gradient_free"))


def _inside(name: str, value: float) -> float:
    return checks.fraction(name, value, zero=False, one=False)


@dataclass(frozen=True, kw_only=True)
class MFM(VelocityMatching):
    """Regression on one posterior draw a state and its reward, at states of the base's path.

    Draws are by the base's stochastic flow map where it has one, else by GLASS. On the ring a tuned
    ODE is 2.4 floors of sliced W2 from the tilt by 4 inner steps, 1.3 by 8.
    """

    value: str | MixedEstimator = option(
        "gradient",
        "gradient of the reward through the draw; gradient_free, for any reward; or "
        "MixedEstimator(), both in the fraction of least variance",
        _value,
    )
    inner_steps: int = option(8, "Heun steps of GLASS", checks.count)
    t_min: float = option(
        0.01, "time below which (1-t)/t is held: it diverges at 0, where the value is flat", _inside
    )

    @property
    def needs_reward_gradient(self) -> bool:
        return self.value != "gradient_free"

    def bind(self, problem: Problem) -> "MFMTuner":
        value = self.value if isinstance(self.value, str) else "mixed"
        check_reward(f"mfm with value={value}", self, problem.tilt.reward)
        return MFMTuner(problem, self)


class MFMTuner(VelocityMatchingTuner):
    """The loss of `MFM`."""

    posterior: DrawnPosterior

    def __init__(self, problem: Problem, method: MFM):
        super().__init__(problem, method)
        self.t_min, self.differentiates = method.t_min, method.needs_reward_gradient
        self.fraction = fraction_of(method.value, self.base.device)
        set_unregistered(self, posterior=_posterior(self.base, method.inner_steps))

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, the effective fraction, and that of the gradient, a mean, if it is mixed."""
        return [*super().out_keys, *([] if self.fraction is None else ["gradient_fraction"])]

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        losses = super().forward(tensordict)
        if self.fraction is not None:
            losses["gradient_fraction"] = self.fraction.values.mean()
        return losses

    def target(self, rows: TensorDictBase, at: PathBatch) -> Tensor:
        with torch.set_grad_enabled(self.differentiates):
            state = at.state.detach().requires_grad_(self.differentiates)
            endpoint, drawn = self._draw(state, at.time, at.condition)
        weight = expand_time(drawn.detach(), state)
        if not self.differentiates:
            return self._by_value(at, endpoint, weight)
        ascent = self._ascent(drawn, state, at.time)
        by_gradient = at.base - (weight - 1) * (at.model - at.base) + ascent
        if self.fraction is None:
            return by_gradient
        by_value = self._by_value(at, endpoint.detach(), weight)
        return self.fraction.mixed(at.time, by_value, by_gradient, at.model)

    def _by_value(self, at: PathBatch, endpoint: Tensor, weight: Tensor) -> Tensor:
        """The target without a gradient, (N, *E)."""
        left = expand_time(1 - at.time, at.state)
        # near the end, where a draw's error would be divided by next to nothing, what the draw says
        # beyond the base is damped
        beyond = (endpoint - at.state - left * at.base) / left.clamp_min(self.t_min)
        return at.model + weight * (at.base + beyond - at.model)

    def _draw(self, state: Tensor, time: Tensor, condition: Any) -> tuple[Tensor, Tensor]:
        """One endpoint of each state, (N, *E), and its weight R, (N,)."""
        batch = TensorDict({"state": state, "time": time}, batch_size=len(time))
        if condition is not None:
            batch["condition"] = condition
        self.posterior.draw(batch, self.generator)
        endpoint = self.posterior(batch)["endpoint"]
        reward = score_endpoints(self.reward, endpoint, condition, self.base.decode)[:, 0]
        weight = (self.tilt.log_weight(reward) - self.pool.log_mean.to(reward)).exp()
        return endpoint[:, 0], weight

    def _ascent(self, weight: Tensor, state: Tensor, time: Tensor) -> Tensor:
        """c_t grad R, (N, *E)."""
        gradient = None
        if weight.requires_grad:
            ones = torch.ones_like(weight)
            (gradient,) = torch.autograd.grad(weight, state, ones, allow_unused=True)
        if gradient is None:
            raise RewardError(
                f"reward {self.reward.name!r} says differentiable, but no gradient reaches the "
                "state"
            )
        time = time.clamp_min(self.t_min)
        return expand_time((1 - time) / time, gradient) * gradient


def _posterior(base: FlowMap, inner_steps: int) -> DrawnPosterior:
    if base.has_posterior_flow:
        return StochasticMapPosterior(base)
    return GLASSPosterior(base, inner_steps=inner_steps, solver="heun")
