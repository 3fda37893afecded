r"""How a tilt is reached in parts: each level tilts what the last one left by a part of it.

.. math:: \rho_{a + h} \propto e^{h r} \rho_a, \qquad \sum h = \lambda
"""

import torch
from torch import Tensor

from alignflow import checks
from alignflow.conditions import cycled
from alignflow.flow_map import FlowMap
from alignflow.modes import frozen
from alignflow.reward_module import Reward, log_tilt

from .pool import effective_share, groups_of, normalize

__all__ = ["AdaptiveLevels", "EqualLevels", "largest_step"]

BISECTIONS = 30


class EqualLevels:
    """A number of levels of the same strength each.

    Args:
        number: Of them.
    """

    def __init__(self, number: int = 1):
        self.number = checks.count("levels", number)

    def step(
        self, level: int, left: float, model: FlowMap, reward: Reward, condition: Tensor | None
    ) -> float:
        """Strength of a level (counted from 0), of what is left."""
        return left / (self.number - level)


class AdaptiveLevels:
    """Levels as strong as candidates of the model that is tilted allow.

    Args:
        share: Of the candidates that stay effective under a level's weights e^{h r}.
        most: Of levels; each takes at least an equal part of what is left.
        candidates: Drawn and scored to find that out.
        steps: Jumps that draw one.
    """

    def __init__(self, share: float = 0.5, most: int = 16, candidates: int = 2048, steps: int = 8):
        self.share = checks.fraction("share", share, zero=False, one=False)
        self.number = checks.count("most", most)
        self.candidates = checks.count("candidates", candidates, least=2)
        self.steps = checks.count("steps", steps)

    @torch.no_grad()
    def step(
        self, level: int, left: float, model: FlowMap, reward: Reward, condition: Tensor | None
    ) -> float:
        """Strength of a level (counted from 0), of what is left."""
        least = left / (self.number - level)
        condition = cycled(condition, self.candidates, model.device)
        # a generator of the level's own, so that a run that goes on finds the same step
        generator = torch.Generator().manual_seed(level)
        with frozen(model, reward):
            state = model.sample(self.candidates, self.steps, condition, generator=generator)
            rewards = reward.score(state, condition, model.decode)
        groups = groups_of(condition, len(state))
        return max(least, largest_step(rewards, groups, self.share, left))


def largest_step(rewards: Tensor, groups: Tensor, share: float, most: float) -> float:
    """The largest h up to `most` at which weights e^{h r} leave a share of candidates effective.

    Args:
        rewards: (N,).
        groups: Of each candidate, (N,); the share is that of the group where it is least.
        share: In (0, 1).
        most: Of h.
    """
    rewards, groups = rewards.double().cpu(), groups.cpu()

    def effective(h: float) -> bool:
        return effective_share(normalize(log_tilt(rewards, h), groups), groups).item() >= share

    if effective(most):
        return most
    low, high = 0.0, most
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if effective(middle) else (low, middle)
    return low
