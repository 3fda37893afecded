r"""Meta Flow Map fine-tuning: one draw of the posterior a state, off any path, without a bias.

.. math:: R = e^{\lambda r(z)}, \quad z \sim p(x_1 | x_t), \qquad
    \text{target} = b - (R - 1)(b_\theta - b) + c_t \nabla_{x_t} R, \quad c_t = \frac{1-t}{t}

Its mean is b_theta where E[R | x_t] (b_theta - b) = c_t grad E[R | x_t], which is the tilted
velocity b + c_t grad V_t: one draw is enough, although V_t is the logarithm of a mean. R is divided
by its mean over the pool of candidates, which changes nothing but keeps it near 1.

Where modes lie apart the mean of c_t grad R is made by rare states between their basins, where the
draw's gradient is huge; elsewhere it is next to nothing. There the form without a gradient is the
one that works, whose target is b_theta + R (d - b_theta) with d = (z - x_t) / (1-t). It takes no
control variate, as `tilt` does: the error of a draw, however small, would be divided by E[R | x_t],
which is next to nothing where rewards are poor, and the velocity there would run away.

Source: Meta Flow Maps (2601.14430), equation 43, with the schedule c_t and not a constant.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time
from alignflow.posteriors import DrawnPosterior, GLASSPosterior, StochasticMapPosterior
from alignflow.reward_module import RewardError, as_reward, log_tilt
from alignflow.values import score_endpoints

from .tuner import check_differentiable
from .velocity_matching import VelocityMatching

__all__ = ["MFM"]

VALUES = ("gradient", "gradient_free")


class MFM(VelocityMatching):
    """Regression on one posterior draw a state and its reward, at states of the base's path.

    Draws are by the base's stochastic flow map where it has one, else by GLASS.

    Args:
        value: "gradient" takes the reward's through the draw; "gradient_free" any black box.
        inner_steps: Of GLASS, by Heun. On the ring a tuned ODE is 2.4 floors of sliced W2 from the
            tilt by 4 of them, 1.3 by 8.
        t_min: Below it c_t is held: there it diverges, and the value's gradient vanishes.
    """

    def __init__(
        self,
        policy: FlowMap,
        reward: Any,
        strength: float,
        *,
        value: str = "gradient",
        inner_steps: int = 8,
        t_min: float = 0.01,
        **options,
    ):
        checks.choice("value", value, VALUES)
        inner_steps = checks.count("inner_steps", inner_steps)
        t_min = checks.fraction("t_min", t_min, zero=False, one=False)
        if value == "gradient":
            check_differentiable("mfm with value=gradient", as_reward(reward))
        super().__init__(policy, reward, strength, **options)
        self.t_min, self.climbs = t_min, value == "gradient"
        # in a tuple, so that what is frozen is neither trained nor saved with the policy
        self._posterior = (_posterior(self.base, inner_steps),)

    def target(self, rows, at):
        with torch.set_grad_enabled(self.climbs):
            state = at.state.detach().requires_grad_(self.climbs)
            endpoint, worth = self._draw(state, at.time, at.condition)
        weight = expand_time(worth.detach(), state)
        if self.climbs:
            rise = self._rise(worth, state, at.time)
            return at.base - (weight - 1) * (at.own - at.base) + rise
        left = expand_time(1 - at.time, state)
        # near the end, where a draw's error would be divided by next to nothing, what the draw says
        # beyond the base is damped
        beyond = (endpoint - at.state - left * at.base) / left.clamp_min(self.t_min)
        return at.own + weight * (at.base + beyond - at.own)

    def _draw(self, state: Tensor, time: Tensor, condition: Any) -> tuple[Tensor, Tensor]:
        """One endpoint of each state, (N, *E), and R, (N,)."""
        (posterior,) = self._posterior
        batch = TensorDict({"state": state, "time": time}, batch_size=len(time))
        if condition is not None:
            batch["condition"] = condition
        posterior.draw(batch, self.generator)
        endpoint = posterior(batch)["endpoint"]
        reward = score_endpoints(self.reward, endpoint, condition, self.base.decode)[:, 0]
        worth = (log_tilt(reward, self.strength) - self.pool.log_mean.to(reward)).exp()
        return endpoint[:, 0], worth

    def _rise(self, worth: Tensor, state: Tensor, time: Tensor) -> Tensor:
        """c_t grad R, (N, *E)."""
        gradient = None
        if worth.requires_grad:
            ones = torch.ones_like(worth)
            (gradient,) = torch.autograd.grad(worth, state, ones, allow_unused=True)
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
