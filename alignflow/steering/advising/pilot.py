r"""The pilot: scored samples of the base, and what they say of a tilt before anything is steered.

.. math:: P^*(r > c) = \frac{\sum_i w_i 1[r_i > c]}{\sum_i w_i}, \qquad
    \mathrm{ESS} = \frac{(\sum_i w_i)^2}{\sum_i w_i^2}, \qquad w_i = e^{\lambda r(x_i)}

A method is compared with the reweighted pilot by the probabilities of the events {r > c}, c being
quantiles of the tilt, and log Z / lambda, at which the event tells base and tilt apart best.
"""

import math
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from alignflow.cost import Cost
from alignflow.metrics import Estimate, effective_sample_size, mean
from alignflow.metrics.reweighting import reweighted_mean

from ..base_steerer import BaseSteerer
from ..chains import ChainSteerer

__all__ = ["Gap", "Pilot", "Run", "run_pilot", "run_short"]

QUANTILES = (0.2, 0.4, 0.6, 0.8)
"""Of the tilt, at which probabilities are compared."""
SEEN = 2.0
"""Standard errors that a distance has to exceed to be seen."""


@dataclass(frozen=True)
class Run:
    """What a short run of a steerer gave.

    Args:
        seconds: A sample.
        cost: Of a sample, counted.
        rewards: Of the samples, (n,), float64.
        chain: Rewards along chains, from the sample of the base on, (n, steps + 1), float64.
    """

    seconds: float
    cost: Cost
    rewards: Tensor
    chain: Tensor | None = None


@dataclass(frozen=True)
class Gap:
    """How far samples are from the tilt.

    Args:
        distance: The largest error of the probability of an event.
        error: Its standard error, of the samples and of the pilot.
    """

    distance: float
    error: float

    def within(self, tolerance: float) -> bool:
        """Whether it is no more than the tolerance, or than can be seen: two standard errors."""
        return self.distance <= max(tolerance, SEEN * self.error)


@dataclass(frozen=True)
class Pilot:
    """Scored samples of the base.

    Args:
        run: The samples with their rewards, cost and seconds.
        weight: e^{lambda r} of mean 1, (M,), float64.
        jumps: Of the flow map, in which they were made.
    """

    run: Run
    weight: Tensor
    jumps: int

    @property
    def rewards(self) -> Tensor:
        """Of the samples, (M,), float64."""
        return self.run.rewards

    @property
    def ess(self) -> float:
        """Effective sample size at full strength."""
        return effective_sample_size(self.weight.log()).item()

    @cached_property
    def thresholds(self) -> Tensor:
        """Of the events, (E,); the first is where weights are above their mean."""
        order = self.rewards.argsort()
        rewards = self.rewards[order]
        total = self.weight[order].cumsum(0) / self.weight.sum()
        places = torch.searchsorted(total, torch.tensor(QUANTILES, dtype=total.dtype))
        quantiles = rewards[places.clamp(max=len(rewards) - 1)]
        # equal weights are all the mean, but for rounding
        low = self.rewards[self.weight <= self.weight.min().clamp(min=1)]
        return torch.cat([low.max().reshape(1), quantiles])

    def base(self) -> Tensor:
        """Probabilities of the events under the base, (E,)."""
        return self._events(self.rewards).mean(0)

    def tilt(self) -> tuple[Tensor, Tensor]:
        """Probabilities of the events under the tilt, with their standard errors, (E,) each."""
        log_weight = self.weight.log()
        found = [reweighted_mean(event, log_weight) for event in self._events(self.rewards).T]
        exact, errors = zip(*((each.value, each.standard_error) for each in found), strict=True)
        return self.weight.new_tensor(exact), self.weight.new_tensor(errors)

    def left(self, chain: Tensor) -> Tensor:
        """Errors of the probabilities after 0, 1, ... steps of chains (n, K), (K, E)."""
        steps = self._events(chain).mean(0)
        # a chain starts at the base, of which the pilot has more samples
        return self.tilt()[0] - torch.cat([self.base().unsqueeze(0), steps[1:]])

    def gap(self, run: Run) -> Gap:
        """How far the samples of a run are from the tilt."""
        events, (exact, exact_errors) = self._events(run.rewards), self.tilt()
        gaps = (events.mean(0) - exact).abs()
        worst = int(gaps.argmax())
        error = events[:, worst].std().item() / len(events) ** 0.5
        return Gap(gaps[worst].item(), math.hypot(error, exact_errors[worst].item()))

    def mean_rewards(self) -> tuple[Estimate, float]:
        """Of the base, and under the tilt."""
        tilted = reweighted_mean(self.rewards, self.weight.log()).value
        return mean(self.rewards[self.rewards > -torch.inf]), tilted

    def forward_seconds(self) -> float:
        """A forward takes on a batch, with its part of the reward."""
        return self.run.seconds / max(self.run.cost.nfe, 1)

    def _events(self, rewards: Tensor) -> Tensor:
        """Which events hold of rewards (...), (..., E)."""
        return (rewards.unsqueeze(-1) > self.thresholds).double()


def run_pilot(base: BaseSteerer, n: int, condition: Any, generator: Any) -> Pilot:
    """Score samples of the base.

    Args:
        base: Importance sampling with one particle, whose samples are the base's.
        n: Samples.
        condition: One for all.
        generator: Source of the noise.

    Raises:
        ValueError: If the reward drops all samples.
    """
    run = run_short(base, n, condition, generator)
    log_weight = base.tilt.log_weight(run.rewards)
    if not (log_weight > -torch.inf).any():
        raise ValueError(f"reward {base.tilt.reward.name!r} is -inf (dropped) for all {n} samples")
    return Pilot(run, log_weight.softmax(0) * n, base.base_steps)


def run_short(steerer: BaseSteerer, n: int, condition: Any, generator: Any) -> Run:
    """Run n systems, of a chain with the rewards along it."""
    start = time.perf_counter()
    chain = None
    if isinstance(steerer, ChainSteerer):
        out = steerer.sample(n, condition, generator, return_chain=True)
        chain = out["chain_reward"].double().cpu()
    else:
        out = steerer.sample(n, condition, generator)
    seconds = (time.perf_counter() - start) / n
    cost = Cost(**{name: round(out[name].item()) for name, _ in Cost().items()})
    return Run(seconds, cost, out["reward"].double().cpu(), chain)
