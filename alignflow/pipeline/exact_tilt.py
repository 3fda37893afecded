"""The exact tilt of a run: what an exact method would give, and whether a model reached it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from alignflow.conditions import group_rows
from alignflow.metrics import Estimate, Interval, TiltCheck, TiltRows, check_tilt, mean, mmd_to_tilt
from alignflow.results import TiltResult
from alignflow.tilt import Tilt

from .context import Context
from .judging import Verdict, judge_samples

__all__ = ["ExactTilt", "ListedTilt", "ReweightedTilt", "exact_tilt"]

NAME = "exact tilt"
PAIRS = 2048  # samples of a list that a model's are compared with

Drawn = dict[str, Tensor]


@dataclass(frozen=True)
class ExactTilt:
    """A tilt that a run's methods aim at, by rows with weights.

    Attributes:
        context: Of the run.
        tilt: The tilt.
        base: Samples of the base, with what is found in them.
        verdict: What is found in these.
    """

    context: Context
    tilt: Tilt
    base: Drawn
    verdict: Verdict

    @cached_property
    def rows(self) -> TiltRows:
        """Rewards and labels that are 0 or 1, with weights."""
        raise NotImplementedError

    def discrepancy(self, states: Tensor) -> Estimate | None:
        """Squared MMD of a model's states (n, *E) to the tilt."""
        raise NotImplementedError

    @property
    def result(self) -> TiltResult:
        """What the result records."""
        rows = self.rows
        return TiltResult(
            name=NAME,
            mean_reward=rows.mean("reward"),
            ess=None if rows.ess is None else rows.ess.value,
            rates={label: _rate(rows.mean(label)) for label in self.verdict.held},
        )

    def check(self, drawn: Drawn, verdict: Verdict) -> TiltCheck:
        """Whether a model's samples reached the tilt."""
        ess = drawn.get("particle_ess")
        return check_tilt(
            self.tilt.strength,
            _numbers(drawn["reward"], verdict),
            _numbers(self.base["reward"], self.verdict),
            self.rows,
            self.discrepancy(drawn["state"]),
            None if ess is None or len(ess) < 2 else mean(ess),
        )


class ReweightedTilt(ExactTilt):
    """By the samples of the base, weighed within the conditions of the run."""

    @cached_property
    def log_weight(self) -> Tensor:
        return self.tilt.log_weight(self.base["reward"].double())

    @cached_property
    def rows(self) -> TiltRows:
        numbers = _numbers(self.base["reward"], self.verdict)
        return TiltRows.reweighted(numbers, self.log_weight, self._groups(len(self.log_weight)))

    def discrepancy(self, states: Tensor) -> Estimate | None:
        n, base = len(states), len(self.log_weight)
        # the first samples of the base share their noise with the model's: as many as there are
        # to spare are left out, for they would bring the two nearer
        rest = slice(min(n, max(base - n, 0)), None)
        x_groups, y_groups = self._groups(n), self._groups(base)
        if x_groups is not None and y_groups is not None:
            y_groups = y_groups[rest]
        y = self.base["state"][rest]
        return mmd_to_tilt(states, y, self.log_weight[rest], x_groups, y_groups)

    def _groups(self, n: int) -> Tensor | None:
        """Which condition each of the first n samples has, (n,); None if all have one."""
        most = max(len(self.log_weight), n)
        condition = self.context.condition(slice(0, most))
        groups = (
            group_rows(condition, most) if condition is not None and len(condition) > 1 else None
        )
        return None if groups is None or not groups.any() else groups[:n].cpu()


class ListedTilt(ExactTilt):
    """By the weights of all there is: without an error."""

    @cached_property
    def listed(self) -> Any:
        """The reference under this tilt."""
        own = self.tilt is self.context.tilt
        return self.context.reference if own else self.context.reference_of(self.tilt)

    @cached_property
    def rows(self) -> TiltRows:
        found = judge_samples(self.context, self.listed.states)
        return TiltRows(_numbers(self.listed.rewards, found), self.listed.weights)

    def discrepancy(self, states: Tensor) -> Estimate | None:
        # another source of noise than that of the base and of what is compared with a reference
        drawn = self.listed.sample(PAIRS, self.context.sample_generator(PAIRS))
        return mmd_to_tilt(states, drawn.to(states), torch.zeros(PAIRS))


def exact_tilt(context: Context, tilt: Tilt, base: Drawn, verdict: Verdict) -> ExactTilt:
    """By a known list, or else by the base's samples.

    Args:
        context: Of the run.
        tilt: The run's, or one at another strength.
        base: `state` (n, *E) and `reward` (n,) of the base's samples.
        verdict: What is found in these.
    """
    kind = ListedTilt if hasattr(context.reference, "states") else ReweightedTilt
    return kind(context, tilt, base, verdict)


def _numbers(rewards: Tensor, verdict: Verdict) -> dict[str, Tensor]:
    return {**verdict.held, "reward": rewards}


def _rate(estimate: Estimate) -> Interval:
    """A rate with its interval, which does not leave [0, 1]."""
    found = estimate.interval
    return Interval(found.value, max(found.low, 0.0), min(found.high, 1.0))
