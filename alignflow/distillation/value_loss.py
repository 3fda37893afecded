r"""The loss of a learned value: a deviance whose minimizer is log E[e^{lambda r} | x_t].

.. math:: L = \mathbb{E}\Big[\frac{e^{(2-p) V}}{2-p} + y\, \frac{e^{(1-p) V}}{p-1}\Big]
    \;\to\; \mathbb{E}[e^V - y V] \text{ as } p \to 1, \qquad y = e^{\lambda r(x_1)}

over t, lambda, x_1 of the base and x_t on a path to it. Its derivative in V is
:math:`e^{(1-p) V} (e^V - E[y | x_t])`, so that every power p has the same minimizer. A row weighs
as :math:`e^{(2-p) V}`: with p = 1 states of low value hardly count, with p = 2 all the same, and
labels of high reward are then noisy. Rows are scaled by e^{-lambda max r} first.

Sources: contrastive energy prediction (2304.12824) for p = 1; Tweedie deviances (Jorgensen 1987).
"""

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from alignflow import checks
from alignflow.conditions import as_given
from alignflow.draws import normal, uniform
from alignflow.interpolants import Linear
from alignflow.precision import accumulation_dtype
from alignflow.values import ValueFunction

from .times import EarlyTimes, Times

__all__ = ["ValueLoss", "deviance", "shared_log_labels"]

POWERS = (1.0, 2.0)


def deviance(value: Tensor, log_label: Tensor, power: float) -> Tensor:
    """The deviance (N,) of values V (N,) and log-labels log y (N,), up to a function of y.

    Args:
        value: V.
        log_label: log y; -inf is a label of 0.
        power: p, from 1 to 2.
    """
    if power == 1:
        return value.exp() - log_label.exp() * value
    if power == 2:
        return value + (log_label - value).exp()
    grown = ((2 - power) * value).exp() / (2 - power)
    return grown + (log_label + (1 - power) * value).exp() / (power - 1)


def shared_log_labels(x: Tensor, t: Tensor, x1: Tensor, log_weight: Tensor) -> Tensor:
    r"""log E[e^{lambda r(x_1)} | x_t, the batch], (N,): rows are one another's draws.

    .. math:: \log \sum_j w_j e^{\lambda_i r_j}, \qquad
        w_j \propto \exp\big(-|x_i - t_i x_{1,j}|^2 / (2 (1-t_i)^2)\big)

    The row that x was made of is one of them, drawn by these very weights: so the label has the
    mean that its own reward has, and less variance.

    Args:
        x: States, (N, *E).
        t: Times, (N,), below 1.
        x1: Endpoints, (N, *E), independent draws of one distribution.
        log_weight: lambda_i r_j, (N, N).
    """
    time = t.unsqueeze(1)
    states, ends = x.flatten(1), x1.flatten(1)
    # |x - t z|^2 but for |x|^2, which all of a row have
    square = time.square() * ends.square().sum(1) - 2 * time * (states @ ends.mT)
    fit = (-square / (2 * (1 - time).square())).log_softmax(1)
    return (fit + log_weight).logsumexp(1)


class ValueLoss(nn.Module):
    """The loss on a batch of scored samples, as a TensorDict of `loss_value`.

    Args:
        value: What is trained.
        power: p of the deviance.
        times: Sampler of times, of which the diagonal is taken; `EarlyTimes` if None.
        generator: Source of times, strengths and noise.
    """

    peak: Tensor

    def __init__(
        self,
        value: ValueFunction,
        power: float = 1.5,
        times: Times | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.value = value
        self.power = checks.finite("power", power)
        if not POWERS[0] <= self.power <= POWERS[1]:
            raise ValueError(f"power must be a number from 1 to 2, got {checks.shown(power)}")
        self.times = EarlyTimes() if times is None else times
        self.generator = checks.as_generator(generator)
        self.register_buffer("peak", torch.zeros(()))

    def forward(self, batch: TensorDictBase) -> TensorDict:
        """Loss of a batch with `data` (N, *E), `reward` (N,) and optionally `condition`."""
        x1, reward = batch.get("data"), batch.get("reward")
        condition = as_given(batch.get("condition", None))
        n, (least, most) = len(x1), self.value.strengths
        t = self.times.diagonal(n, self.generator).to(x1)
        strength = least + (most - least) * uniform((n,), self.generator).to(x1)
        noise = normal(x1.shape, self.generator, x1.dtype, x1.device)
        x = Linear().state(noise, x1, t)
        value = self.value(x, t, strength, condition)
        exact = accumulation_dtype(x1)
        x, t, x1, strength, reward = (each.to(exact) for each in (x, t, x1, strength, reward))
        log_label = _log_label(x, t, x1, strength, reward, condition)
        peak = strength * self.peak.to(exact)
        loss = deviance(value.to(exact) - peak, log_label - peak, self.power)
        return TensorDict({"loss_value": loss.mean()})


def _log_label(
    x: Tensor, t: Tensor, x1: Tensor, strength: Tensor, reward: Tensor, condition: Any
) -> Tensor:
    """log y of each row, (N,)."""
    # the label of a sample that was dropped is 0, at strength 0 too
    if condition is not None:
        return torch.where(reward == -torch.inf, reward, strength * reward)
    log_weight = strength.unsqueeze(1) * reward
    return shared_log_labels(x, t, x1, log_weight.where(reward > -torch.inf, -torch.inf))
