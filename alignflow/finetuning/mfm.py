r"""Meta Flow Map fine-tuning: one draw of the posterior a state, off any path, without a bias.

.. math:: R = e^{\lambda r(z)}, \quad z \sim p(x_1 | x_t), \qquad
    \text{target} = b - (R - 1)(b_\theta - b) + c_t \nabla_{x_t} R, \quad c_t = \frac{1-t}{t}

Its mean is b_theta where E[R | x_t] (b_theta - b) = c_t grad E[R | x_t], which is the tilted
velocity b + c_t grad V_t: one draw is enough, although V_t is the logarithm of a mean. R is divided
by its mean over the pool of candidates, which changes nothing but keeps it near 1.

Source: Meta Flow Maps (2601.14430), equation 43, with the schedule c_t and not a constant.
"""

from typing import Any

import torch
from tensordict import TensorDict

from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time
from alignflow.posteriors import DrawnPosterior, GLASSPosterior, StochasticMapPosterior
from alignflow.reward_module import RewardError, log_tilt
from alignflow.values import score_endpoints

from .velocity_matching import VelocityMatching

__all__ = ["MFM"]


class MFM(VelocityMatching):
    """Regression on one posterior draw's reward and its gradient, at states of the base's path.

    Draws are by the base's stochastic flow map where it has one, else by GLASS.

    Args:
        inner_steps: Of GLASS, by Heun.
        t_min: Below it c_t is held: there it diverges, and the value's gradient vanishes.
    """

    takes_black_box = False

    def __init__(
        self,
        policy: FlowMap,
        reward: Any,
        strength: float,
        *,
        inner_steps: int = 8,
        t_min: float = 0.01,
        **options,
    ):
        if not 0 < t_min < 1:
            raise ValueError(f"t_min must lie in (0, 1), got {t_min}")
        super().__init__(policy, reward, strength, **options)
        self.t_min = t_min
        # in a tuple, so that what is frozen is neither trained nor saved with the policy
        self._posterior = (_posterior(self.base, inner_steps),)

    def target(self, rows, at):
        (posterior,) = self._posterior
        keys = {"state": at.state, "time": at.time, "condition": at.condition}
        batch = TensorDict({k: v for k, v in keys.items() if v is not None}, len(at.time))
        posterior.draw(batch, self.generator)
        with torch.enable_grad():
            batch["state"] = state = at.state.detach().requires_grad_()
            endpoint = posterior(batch)["endpoint"]
            reward = score_endpoints(self.reward, endpoint, at.condition, self.base.decode)[:, 0]
            if not reward.requires_grad:
                raise RewardError(
                    f"reward {self.reward.name!r} says differentiable, but no gradient reaches the "
                    "state"
                )
            worth = (log_tilt(reward, self.strength) - self.pool.log_mean.to(reward)).exp()
            (gradient,) = torch.autograd.grad(worth.sum(), state)
        time = at.time.clamp_min(self.t_min)
        rise = expand_time((1 - time) / time, gradient) * gradient
        return at.base - (expand_time(worth.detach(), rise) - 1) * (at.own - at.base) + rise


def _posterior(base: FlowMap, inner_steps: int) -> DrawnPosterior:
    if base.has_posterior_flow:
        return StochasticMapPosterior(base)
    return GLASSPosterior(base, inner_steps=inner_steps, solver="heun")
