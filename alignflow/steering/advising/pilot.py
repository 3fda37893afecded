r"""The pilot: scored samples of the base, and what they say of a tilt before anything is steered.

.. math:: \mathrm{ESS} = \frac{(\sum_i w_i)^2}{\sum_i w_i^2}, \qquad w_i = e^{\lambda r(x_i)}

Methods are compared with the reweighted pilot by the probabilities of events {r > c}, c being
quantiles of the tilt, and log Z / lambda, at which the event tells base and tilt apart best.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from alignflow.cost import Cost
from alignflow.metrics import Estimate, mean

from ..base_steerer import BaseSteerer
from ..chains import ChainSteerer

__all__ = ["Pilot", "Run", "run_pilot", "run_short"]

QUANTILES = (0.2, 0.4, 0.6, 0.8)
"""Of the tilt, at which probabilities are compared."""
ROWS = 256
"""Through the model at a time, if nothing else is said."""


@dataclass(frozen=True)
class Run:
    """What a short run of a steerer gave.

    Args:
        seconds: A sample.
        cost: Of a sample, counted.
        rewards: Of particles (n, M), or along chains (n, steps + 1).
        log_weight: Of the particles, (n, M).
    """

    seconds: float
    cost: Cost
    rewards: Tensor
    log_weight: Tensor


@dataclass(frozen=True)
class Pilot:
    """Scored samples of the base.

    Args:
        rewards: (M,), float64.
        weight: e^{lambda r} of mean 1, (M,), float64.
        jumps: Of the flow map, in which they were made.
        run: Its cost and seconds.
    """

    rewards: Tensor
    weight: Tensor
    jumps: int
    run: Run

    @property
    def ess(self) -> float:
        """Effective sample size at full strength."""
        return (self.weight.sum().square() / self.weight.square().sum()).item()

    @property
    def ess_fraction(self) -> float:
        """E[w]^2 / E[w^2]: that of one sample."""
        return self.ess / len(self.weight)

    @property
    def witness(self) -> float:
        """The reward above which weights are above their mean."""
        above = self.weight > 1
        if not above.any():
            return self.rewards.max().item()
        lowest = self.rewards[above].min().item()
        # the largest one below, so that the event is {r > c}
        below = self.rewards[~above]
        return (below.max().item() + lowest) / 2 if len(below) else lowest - 1

    @property
    def thresholds(self) -> Tensor:
        """Of the events, (E,); the first is the witness."""
        order = self.rewards.argsort()
        rewards = self.rewards[order]
        total = self.weight[order].cumsum(0) / self.weight.sum()
        places = torch.searchsorted(total, torch.tensor(QUANTILES, dtype=total.dtype))
        quantiles = rewards[places.clamp(max=len(rewards) - 1)]
        return torch.cat([quantiles.new_tensor([self.witness]), quantiles])

    def probabilities(self) -> tuple[Tensor, Tensor]:
        """Of the events under the tilt, with their standard errors, (E,) each."""
        share = self.weight / self.weight.sum()
        events = (self.rewards.unsqueeze(1) > self.thresholds).double()
        exact = share @ events
        errors = (share.unsqueeze(1) * (events - exact)).norm(dim=0)
        return exact, errors

    def of_particles(self, run: Run) -> tuple[Tensor, Tensor]:
        """Probabilities of the events for one of a system's particles, with standard errors."""
        share = run.log_weight.double().softmax(1).unsqueeze(2)
        events = (run.rewards.double().unsqueeze(2) > self.thresholds).double()
        systems = (share * events).sum(1)
        return systems.mean(0), systems.std(0) / len(systems) ** 0.5

    def forward_seconds(self) -> float:
        """A forward takes on a batch, with its share of the reward."""
        return self.run.seconds / max(self.run.cost.nfe, 1)

    def mean_rewards(self) -> tuple[Estimate, float]:
        """Of the base, and under the tilt."""
        valid = self.rewards > -torch.inf
        share = self.weight[valid] / self.weight[valid].sum()
        return mean(self.rewards[valid]), (share @ self.rewards[valid]).item()


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
    rewards = run.rewards[:, 0].double()
    log_weight = base.tilt.log_weight(rewards)
    if not (log_weight > -torch.inf).any():
        raise ValueError(f"reward {base.tilt.reward.name!r} is -inf (dropped) for all {n} samples")
    weight = log_weight.softmax(0) * n
    return Pilot(rewards, weight, base.base_steps, replace(run, rewards=rewards))


def run_short(steerer: BaseSteerer, n: int, condition: Any, generator: Any) -> Run:
    """Run n systems, of a chain with the rewards along it."""
    start = time.perf_counter()
    if isinstance(steerer, ChainSteerer):
        out = steerer.sample(n, condition, generator, return_chain=True)
    else:
        out = steerer.sample(n, condition, generator)
    seconds = (time.perf_counter() - start) / n
    cost = Cost(**{name: round(out[name].item()) for name, _ in Cost().items()})
    rewards = out.get("chain_reward", out["particles", "reward"])
    return Run(seconds, cost, rewards.double().cpu(), out["particles", "log_weight"].cpu())
