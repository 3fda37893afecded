r"""The value's gradient through the draws, which are differentiable functions of the state.

.. math::
    \nabla V_t \approx \sum_i w_i \nabla_x (\lambda r(z_i) + l_i) - \sum_i w^0_i \nabla_x l_i,
    \qquad w = \mathrm{softmax}(\lambda r + l), \quad w^0 = \mathrm{softmax}(l)

Of one unweighted draw it is lambda grad r(z(x)): the point gradient, which does not vanish at time
0 as the gradient of the value does.

Source: Meta Flow Maps (2601.14430), MFM-G; the second term is the score of the weighted posterior.
"""

import torch
from torch import Tensor

from alignflow.reward_module import NotFiniteError

from .estimator import Estimator, no_gradient

__all__ = ["Gradient", "RewardSoftmaxGradient"]


class Gradient(Estimator):
    """grad V_t, by backpropagation through reward, decoding and posterior.

    The state must require a gradient before the posterior runs; a steerer ensures it. A draw of
    an invalid reward (under on_invalid "drop" or "worst") has a gradient of 0.
    """

    reads = ("state", "endpoint")
    writes = ("endpoint_reward", "value", "value_gradient")
    differentiates = True
    needs_reward_gradient = True

    def take(self, running, tensordict, alone):
        state, endpoint = self.read(tensordict, "state"), self.read(tensordict, "endpoint")
        if not (state.requires_grad and endpoint.requires_grad):
            raise ValueError(f"{self!r} needs a state that requires grad before the posterior runs")
        rewards, log_weight = self.score(running, tensordict)
        if not rewards.requires_grad:
            raise no_gradient(self.tilt.reward)
        exponent = self.tilt.log_weight(rewards)
        if log_weight is not None:
            exponent = exponent + log_weight
        # a dropped draw has weight 0, and 0 times -inf is no number
        finite = exponent.nan_to_num(neginf=0.0)
        weighing = self.weighing(rewards, exponent).detach()

        if alone:
            objective = (_softmax(weighing) * finite).sum()
            if log_weight is not None:
                objective = objective - (_softmax(log_weight.detach()) * log_weight).sum()
            running.gradient = self._gradient(objective, state)
            return

        def tilted_gradient(weight: Tensor) -> Tensor:
            return self._gradient((weight * finite).sum(), state, again=log_weight is not None)

        running.tilted.add(weighing, tilted_gradient)
        if log_weight is not None:
            graph = log_weight
            running.base.add(
                log_weight.detach(), lambda w: self._gradient((w * graph).sum(), state)
            )

    def weighing(self, rewards: Tensor, exponent: Tensor) -> Tensor:
        """Log-weights of draws, up to a constant: lambda r + l."""
        return exponent

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
            raise no_gradient(self.tilt.reward)
        return gradient

    def _valid(self, gradient: Tensor) -> Tensor:
        reward = self.tilt.reward
        invalid = ~torch.isfinite(gradient).flatten(1).all(1)
        if reward.on_invalid != "raise":
            return gradient.masked_fill(invalid.reshape(-1, *[1] * (gradient.ndim - 1)), 0.0)
        # the one wait for a GPU: an error must name the step that made it
        if invalid.any():
            shown = ", ".join(map(str, invalid.nonzero().flatten().tolist()[:8]))
            raise NotFiniteError(
                f"the gradient of reward {reward.name!r} is not finite for samples {shown}"
                f" of {len(gradient)}"
            )
        return gradient


class RewardSoftmaxGradient(Gradient):
    """The same with draws weighted by their reward alone, softmax(lambda r): not consistent.

    Source: the released default of Weighted Diamond (2602.05993), without its normalizations.
    """

    def weighing(self, rewards, exponent):
        return self.tilt.log_weight(rewards)


def _softmax(exponent: Tensor) -> Tensor:
    """Weights of draws; all 0 where every draw was dropped."""
    return exponent.softmax(-1).nan_to_num(nan=0.0)
