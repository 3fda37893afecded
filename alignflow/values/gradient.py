r"""The value's gradient through the draws: they are functions of the state, and so is their worth.

.. math::
    \nabla V_t \approx \sum_i w_i \nabla_x (\lambda r(z_i) + l_i) - \sum_i w^0_i \nabla_x l_i,
    \qquad w = \mathrm{softmax}(\lambda r + l), \quad w^0 = \mathrm{softmax}(l)

Of one unweighted draw it is lambda grad r(z(x)): the point gradient, which does not vanish at time
0 as the value's own does.

Source: Meta Flow Maps (2601.14430), MFM-G; the second term is the weighted posterior's own score.
"""

import torch
from torch import Tensor

from alignflow.cost import Cost
from alignflow.reward_module import NotFiniteError, log_tilt

from .estimator import Estimator, no_gradient

__all__ = ["Gradient", "RewardSoftmaxGradient"]


class Gradient(Estimator):
    """grad V_t, back through decoding, reward and posterior.

    The state must require a gradient before the posterior runs; a steerer sees to that. A draw of
    an invalid reward that is kept (on_invalid "drop" or "worst") has no gradient: it counts as 0.
    """

    reads = ("state", "endpoint")
    writes = ("endpoint_reward", "value", "value_gradient")
    differentiates = True
    climbs = True

    @property
    def cost(self):
        return Cost(reward_calls=1, reward_vjps=1)

    def backwards(self, posterior, parts):
        # log-weights have a second average, which parts cannot share a way back with
        passes = 2 if "endpoint_log_weight" in posterior.writes and len(parts) > 1 else 1
        return passes * sum(map(posterior.backwards, parts))

    def take(self, running, tensordict, alone):
        state, endpoint = self.read(tensordict, "state"), self.read(tensordict, "endpoint")
        if not (state.requires_grad and endpoint.requires_grad):
            raise ValueError(f"{self!r} needs a state that requires grad before the posterior runs")
        rewards, log_weight = self.score(running, tensordict)
        if not rewards.requires_grad:
            raise no_gradient(self.reward)
        worth = log_tilt(rewards, self.strength)
        if log_weight is not None:
            worth = worth + log_weight
        # a dropped draw counts for nothing, and -inf times its weight of 0 would be no number
        climbed = worth.nan_to_num(neginf=0.0)
        exponent = self.exponent(rewards, worth).detach()

        if alone:
            objective = (_softmax(exponent) * climbed).sum()
            if log_weight is not None:
                objective = objective - (_softmax(log_weight.detach()) * log_weight).sum()
            running.gradient = self._gradient(objective, state)
            return

        def of_worth(weight: Tensor) -> Tensor:
            return self._gradient((weight * climbed).sum(), state, again=log_weight is not None)

        running.tilted.add(exponent, of_worth)
        if log_weight is not None:
            of_state = log_weight
            running.base.add(
                log_weight.detach(), lambda w: self._gradient((w * of_state).sum(), state)
            )

    def exponent(self, rewards: Tensor, worth: Tensor) -> Tensor:
        """What draws are weighted by: their worth, lambda r + l."""
        return worth

    def finish(self, running, tensordict):
        gradient = running.gradient
        if gradient is None:
            gradient = running.tilted.mean
            if running.base.peak is not None:
                gradient = gradient - running.base.mean
        self.write(tensordict, value_gradient=self._valid(gradient))
        return super().finish(running, tensordict)

    def _gradient(self, objective: Tensor, state: Tensor, again: bool = False) -> Tensor:
        (gradient,) = torch.autograd.grad(objective, state, retain_graph=again, allow_unused=True)
        if gradient is None:
            raise no_gradient(self.reward)
        return gradient

    def _valid(self, gradient: Tensor) -> Tensor:
        invalid = ~torch.isfinite(gradient).flatten(1).all(1)
        if not invalid.any():
            return gradient
        if self.reward.on_invalid == "raise":
            shown = ", ".join(map(str, invalid.nonzero().flatten().tolist()[:8]))
            raise NotFiniteError(
                f"the gradient of reward {self.reward.name!r} is not finite for samples {shown}"
                f" of {len(gradient)}"
            )
        return gradient.masked_fill(invalid.reshape(-1, *[1] * (gradient.ndim - 1)), 0.0)


class RewardSoftmaxGradient(Gradient):
    """The same with draws weighted by their reward alone, softmax(lambda r): not consistent.

    Source: the released default of Weighted Diamond (2602.05993), without its normalizations.
    """

    def exponent(self, rewards, worth):
        return log_tilt(rewards, self.strength)


def _softmax(exponent: Tensor) -> Tensor:
    """Weights of draws; all 0 where none counts."""
    return exponent.softmax(-1).nan_to_num(nan=0.0)
