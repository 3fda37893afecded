r"""Particles: their log-weights, how many they are worth, and which of them are kept.

.. math:: \mathrm{ESS} = \frac{(\sum_i w_i)^2}{\sum_i w_i^2}, \qquad w = e^{\text{log\_weight}}

A system is M particles, a row of a (B, M) tensor. A log-weight of -inf is a particle that was
dropped; a system with nothing but these has no law left and is refused.
"""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow.graph import Node
from alignflow.values import log_tilt

__all__ = [
    "BestOfN",
    "Importance",
    "Resampler",
    "Single",
    "effective_sample_size",
    "normalize_weights",
    "systematic",
]


def normalize_weights(log_weight: Tensor) -> Tensor:
    """Weights (*B, M) that sum to one, from log-weights known up to a constant.

    Raises:
        ValueError: If some are NaN or +inf, or all of a system are -inf.
    """
    if log_weight.isnan().any() or log_weight.isposinf().any():
        raise ValueError("a log-weight must be a number or -inf, got NaN or +inf")
    lost = log_weight.isneginf().all(-1)
    if lost.any():
        systems = ", ".join(map(str, lost.flatten().nonzero().flatten().tolist()[:8]))
        raise ValueError(
            f"all {log_weight.shape[-1]} particles of system {systems} have a log-weight of -inf: "
            "none is left to weigh"
        )
    return log_weight.softmax(-1)


def effective_sample_size(log_weight: Tensor) -> Tensor:
    """ESS (*B,) of log-weights (*B, M): 1 if one particle has all the weight, M if all are equal.

    Raises:
        ValueError: As `normalize_weights`.
    """
    return 1 / normalize_weights(log_weight).square().sum(-1)


def systematic(
    log_weight: Tensor, count: int | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Systematic resampling: each particle i is kept floor or ceil of count w_i times.

    One uniform number a system, shared by `count` evenly spaced positions in the cumulative weight;
    so the expected number of copies is count w_i exactly. With count=1 it is one categorical draw.

    Args:
        log_weight: (B, M).
        count: Particles to keep; M by default.
        generator: Source of the uniforms.

    Returns:
        Indices into the M particles, (B, count), in increasing order.

    Raises:
        ValueError: As `normalize_weights`.
    """
    systems, particles = log_weight.shape
    count = particles if count is None else count
    cumulative = normalize_weights(log_weight.double()).cumsum(-1)
    # ends at 1 exactly, so that rounding never leads past the last particle of positive weight
    cumulative = cumulative / cumulative[:, -1:]
    device = None if generator is None else generator.device
    uniform = torch.rand(systems, 1, generator=generator, dtype=torch.float64, device=device)
    positions = (torch.arange(count, device=device) + uniform) / count
    # (M - 1 + u) / M may round to 1, which lies beyond every particle
    positions = positions.clamp(max=1 - torch.finfo(torch.float64).eps).to(cumulative.device)
    return torch.searchsorted(cumulative, positions, right=True)


class Resampler(Node):
    """What happens to the particles of a system: between steps, and at the end.

    Called between steps it may weigh, copy and drop particles; this one lets each be. After the
    last step `finish` gives the final log-weights and `choose` the particle that is returned.
    """

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


class Single(Resampler):
    """One particle a system, which is the system's sample."""

    def finish(self, tensordict):
        reward = self.read(tensordict, "reward")
        return self.write(tensordict, log_weight=log_tilt(reward, 0.0))

    def choose(self, reward, log_weight, generator=None):
        if reward.shape[-1] != 1:
            raise ValueError(f"{self!r} takes one particle a system, got {reward.shape[-1]}")
        return torch.zeros(len(reward), dtype=torch.long, device=reward.device)


class _OfTheBase(Resampler):
    """Independent particles of the base model: their importance weights under the tilt are known.

    Args:
        strength: lambda of the tilt: a finished sample's log-weight is lambda r.
    """

    def __init__(self, strength: float):
        super().__init__()
        self.strength = strength

    def finish(self, tensordict):
        reward = self.read(tensordict, "reward")
        return self.write(tensordict, log_weight=log_tilt(reward, self.strength))

    def extra_repr(self) -> str:
        return f"strength={self.strength:g}"


class BestOfN(_OfTheBase):
    """The particle with the highest reward: the law of a maximum of M, not the tilt."""

    def choose(self, reward, log_weight, generator=None):
        normalize_weights(log_weight)  # refuses a system without a valid particle
        return reward.argmax(-1)


class Importance(_OfTheBase):
    """One particle drawn by its importance weight: the tilt, as M grows."""

    def choose(self, reward, log_weight, generator=None):
        return systematic(log_weight, 1, generator).squeeze(-1)
