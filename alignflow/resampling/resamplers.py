"""Resamplers that leave particles alone until the end: then one of each system is chosen."""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow.graph import Node
from alignflow.tilt import Tilt

from .schemes import normalize_weights, systematic

__all__ = ["BestOfN", "Importance", "Resampler", "Single", "equal_weight"]


class Resampler(Node):
    """What happens to the particles of a system: between steps, and at the end.

    Called between steps it may weigh, copy and drop particles; this one lets each be. After the
    last step `finish` gives the final log-weights and `choose` the particle that is returned.

    Attributes:
        carries: Keys of a particle that it needs in the next step.
        weighs_moves: Whether its weights hold the density ratio of each move, so that a move
            without a density must not be corrected.
    """

    carries: tuple[str, ...] = ()
    weighs_moves = False

    whole_batch = True

    def forward(self, tensordict):
        return tensordict

    def finish(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the final `log_weight` (B,) of finished samples with their `reward` (B,)."""
        raise NotImplementedError

    def choose(
        self, reward: Tensor, log_weight: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """The particle that stands for its system, (B,), from rewards and log-weights (B, M)."""
        raise NotImplementedError


def equal_weight(reward: Tensor) -> Tensor:
    """Log-weights (B,) of particles that all count the same, but for those that were dropped."""
    return torch.where(reward == -torch.inf, reward, 0.0)


class Single(Resampler):
    """One particle a system, which is the system's sample."""

    def finish(self, tensordict):
        reward = self.read(tensordict, "reward")
        return self.write(tensordict, log_weight=equal_weight(reward))

    def choose(self, reward, log_weight, generator=None):
        if reward.shape[-1] != 1:
            raise ValueError(f"{self!r} takes one particle a system, got {reward.shape[-1]}")
        return torch.zeros(len(reward), dtype=torch.long, device=reward.device)


class _OfTheBase(Resampler):
    """Independent particles of the base model: their importance weights under the tilt are known.

    Args:
        tilt: Weighs a finished sample by exp(lambda r).
    """

    def __init__(self, tilt: Tilt):
        super().__init__()
        self.tilt = tilt

    def finish(self, tensordict):
        reward = self.read(tensordict, "reward")
        return self.write(tensordict, log_weight=self.tilt.log_weight(reward))

    def extra_repr(self) -> str:
        return f"strength={self.tilt.strength:g}"


class BestOfN(_OfTheBase):
    """The particle with the highest reward: the distribution of a maximum of M, not the tilt."""

    def choose(self, reward, log_weight, generator=None):
        normalize_weights(log_weight)  # refuses a system without a valid particle
        return reward.argmax(-1)


class Importance(_OfTheBase):
    """One particle drawn by its importance weight: the tilt, as M grows."""

    def choose(self, reward, log_weight, generator=None):
        return systematic(log_weight, 1, generator).squeeze(-1)
