"""One measurement: distances of a method's samples to exact ones, and their cost."""

import math
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alignflow.metrics import energy_distance, mmd, mode_weights_error, sliced_wasserstein
from alignflow.precision import autocast
from alignflow.resampling import systematic
from alignflow.reward_module import Reward
from alignflow.steering import steer
from alignflow.targets import Empirical, GaussianMixture, Sequences

from .suite import Case

__all__ = ["COSTS", "DISTANCES", "RATES", "Truth", "measure", "reference_seed"]

STATES = ("sliced_w2", "mmd", "energy_distance")
DISTANCES = ("total_variation", *STATES, "reward_error", "mode_error")
"""To the exact tilt; beside them the samples' mean `reward` is measured."""
RATES = ("rate", "rate_bias")
"""Of a case with a rate: the samples', and by how much it exceeds that of the exact tilt."""
COSTS = ("nfe", "vjps", "reward_calls", "reward_vjps", "seconds", "megabytes")
DRAWS = 100_000  # of the exact tilt, for its mean reward


class Truth:
    """The exact tilt of a case."""

    def __init__(self, case: Case):
        self.case, tilt = case, case.tilt
        if isinstance(case.target, Empirical):
            rewards = _scored(case.target, tilt.reward)
            self.tilted = case.target.tilted(rewards, tilt.strength)
            weight = self.tilted.log_weight.softmax(0)
            self.mean_reward = (weight @ rewards.double()).item()
            if case.rate is not None:
                self.rate = (weight @ _scored(case.target, case.rate).double()).item()
            return
        self.tilted = case.target.tilted(tilt.reward, tilt.strength)
        draws = self.tilted.sample(DRAWS, generator=torch.Generator().manual_seed(0))
        self.mean_reward = self.score(draws, tilt.reward).mean().item()
        if case.rate is not None:
            self.rate = self.score(draws, case.rate).mean().item()

    def sample(self, n: int, seed: int) -> Tensor:
        """n exact draws."""
        return self.tilted.sample(n, generator=torch.Generator().manual_seed(seed))

    def score(self, states: Tensor, reward: Reward) -> Tensor:
        """Rewards (n,) of states, a part at a time."""
        with torch.no_grad():
            parts = states.split(10_000)
            decode = self.case.policy.decode
            return torch.cat([reward.score(x, decode=decode) for x in parts]).double()

    @property
    def diverged(self) -> dict[str, float]:
        """The distances of a method that diverged and has no samples."""
        names = ("total_variation",) if isinstance(self.tilted, Sequences) else STATES
        if isinstance(self.tilted, GaussianMixture):
            names = (*names, "mode_error")
        rates = () if self.case.rate is None else RATES
        return dict.fromkeys((*names, "reward", "reward_error", *rates), math.nan)

    def distances(self, states: Tensor, seed: int) -> dict[str, float]:
        """Distances of samples to the exact tilt, and their mean reward.

        That of strings is to their probabilities, those of other states to as many exact draws.
        """
        if not states.isfinite().all():
            return self.diverged
        try:
            reward = self.score(states, self.case.tilt.reward).mean().item()
        except FloatingPointError:
            return self.diverged  # too far out for the reward to be a number
        found = {"reward": reward, "reward_error": abs(reward - self.mean_reward)}
        if self.case.rate is not None:
            rate = self.score(states, self.case.rate).mean().item()
            found |= {"rate": rate, "rate_bias": rate - self.rate}
        if isinstance(self.tilted, Sequences):
            return {"total_variation": float(self.tilted.total_variation(states)), **found}
        exact = self.sample(len(states), seed)
        generator = torch.Generator().manual_seed(seed)  # of the projections
        found |= {
            "sliced_w2": float(sliced_wasserstein(states, exact, generator=generator)),
            "mmd": float(mmd(states, exact)),
            "energy_distance": float(energy_distance(states, exact)),
        }
        if isinstance(self.tilted, GaussianMixture):
            found["mode_error"] = float(mode_weights_error(states, self.tilted))
        return found


@lru_cache(maxsize=2)
def _scored(target: Empirical, reward: Reward) -> Tensor:
    """Rewards of a data set's rows, which all strengths of a case share."""
    return target.rewards(reward)


def measure(truth: Truth, options: Mapping[str, Any] | None, seed: int) -> dict[str, float]:
    """Distances and cost of a method on a case; without options, of exact draws: the floor."""
    case, samples = truth.case, truth.case.samples
    if options is None:
        # apart from the exact draws that methods are compared with
        exact = truth.sample(samples, reference_seed(seed) + 1)
        return truth.distances(exact, reference_seed(seed))
    generator = torch.Generator().manual_seed(seed)
    chosen = _resolved(options, case)
    steerer = steer(case.policy, case.tilt, **chosen)
    systems = 1 if options.get("particles") == "all" else samples
    _forget_peak()
    start = time.perf_counter()
    try:
        with autocast(case.precision, case.policy.device):
            out = steerer.sample(systems, generator=generator)
    except FloatingPointError:
        return truth.diverged  # and the page says so
    seconds = time.perf_counter() - start
    states = out["state"]
    if systems == 1:
        log_weight = out["particles", "log_weight"]
        chosen_rows = systematic(log_weight, samples, generator)[0]
        states = out["particles", "state"][0, chosen_rows]
    costs = {name: out[name].item() / (samples / systems) for name in COSTS[:4]}
    costs |= {"seconds": seconds / samples, "megabytes": _peak_megabytes()}
    return truth.distances(states, reference_seed(seed)) | costs


def reference_seed(seed: int) -> int:
    """Of the exact draws that a repetition's samples are compared with."""
    return 2 * seed + 1_000_001


def _resolved(options: Mapping[str, Any], case: Case) -> dict[str, Any]:
    """Options as `steer` takes them."""
    chosen = dict(options)
    if chosen.get("particles") == "all":
        chosen["particles"] = case.samples
    takes_target = "target" in steer.options(chosen["method"])
    if takes_target and case.target is not case.policy:
        chosen["target"] = case.target
    return chosen


def _forget_peak() -> None:
    """Start the process's high-water mark of memory anew, where Linux allows it."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # then the mark is that of the whole run


def _peak_megabytes() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return float("nan")
