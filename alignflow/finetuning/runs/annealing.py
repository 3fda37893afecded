r"""Annealing stages: each tilts the result of the last one by a part of the strength.

.. math:: \rho_{a + h} \propto e^{h r} \rho_a, \qquad \sum h = \lambda
"""

from typing import Any, cast

import torch
from scipy.optimize import brentq
from torch import Tensor

from alignflow import checks
from alignflow.conditions import cycled
from alignflow.flow_map import FlowMap
from alignflow.metrics.groups import ess_fraction, groups_of, normalize_by_group
from alignflow.modes import frozen
from alignflow.tilt import Tilt

__all__ = ["AdaptiveStages", "EqualStages", "largest_strength"]


class EqualStages:
    """A number of stages of equal strength.

    Args:
        number: Of them.
    """

    def __init__(self, number: int = 1):
        self.number = checks.count("annealing_stages", number)

    def strength(self, stage: int, left: Tilt, model: FlowMap, condition: Any) -> float:
        """Strength of a stage (counted from 0), of the tilt that is left."""
        return left.strength / (self.number - stage)


class AdaptiveStages:
    """Stages as strong as candidates of the model that is tilted allow.

    Args:
        ess_fraction: Effective sample size over the number of candidates under a stage's weights
            e^{h r}.
        most: Number of stages at most; each takes at least an equal part of what is left.
        candidates: Drawn and scored before each stage.
        steps: Jumps that draw one.
    """

    def __init__(
        self, ess_fraction: float = 0.5, most: int = 16, candidates: int = 2048, steps: int = 8
    ):
        self.ess_fraction = checks.fraction("ess_fraction", ess_fraction, zero=False, one=False)
        self.number = checks.count("most", most)
        self.candidates = checks.count("candidates", candidates, least=2)
        self.steps = checks.count("steps", steps)

    @torch.no_grad()
    def strength(self, stage: int, left: Tilt, model: FlowMap, condition: Any) -> float:
        """Strength of a stage (counted from 0), of the tilt that is left."""
        least = left.strength / (self.number - stage)
        condition = cycled(condition, self.candidates, model.device)
        # a generator for each stage, so that a resumed run finds the same strength
        generator = torch.Generator().manual_seed(stage)
        with frozen(model, left.reward):
            state = model.sample(self.candidates, self.steps, condition, generator=generator)
            rewards = left.reward.score(state, condition, model.decode)
        groups = groups_of(condition, len(state))
        return max(least, largest_strength(left, rewards, groups, self.ess_fraction))


def largest_strength(tilt: Tilt, rewards: Tensor, groups: Tensor, fraction: float) -> float:
    """The largest strength up to the tilt's at which its weights leave enough candidates effective.

    Args:
        tilt: The tilt at its full strength.
        rewards: Of the candidates, (N,).
        groups: Of each candidate, (N,); the group with the least effective sample size counts.
        fraction: Effective sample size over the number of candidates, in (0, 1).
    """
    rewards, groups = rewards.double().cpu(), groups.cpu()

    def excess(strength: float) -> float:
        log_weight = Tilt(tilt.reward, strength).log_weight(rewards)
        return ess_fraction(normalize_by_group(log_weight, groups), groups).item() - fraction

    if excess(tilt.strength) >= 0:
        return tilt.strength
    if excess(0.0) <= 0:  # of dropped candidates alone
        return 0.0
    return cast(float, brentq(excess, 0.0, tilt.strength))
