"""Random mixtures with a reward that empties much of them: what holds a tuner where nothing weighs?

A mixture and its reward are drawn from one seed, and drawn again until the tilt is neither weak nor
hopeless and leaves next to nothing of a mode that held much of the base.
"""

import torch
from torch import Tensor

from alignflow.targets import GaussianMixture, Quadratic

__all__ = ["emptied_mixture", "emptied_mixture_reward"]

MODES = 5
SCALE = 4.0  # of the means, in the plane; as far from each other in other dimensions
VARIANCES = 0.1, 0.35
EFFECTIVE = 0.1, 0.6  # ESS fraction of the base's samples, between these
EMPTIED = 0.2, 1e-5  # a mode of at least this mass has at most this weight


def emptied_mixture(dimension: int, seed: int) -> GaussianMixture:
    """Five isotropic Gaussians, at least a fifth of whose mass `emptied_mixture_reward` takes away.

    Args:
        dimension: D.
        seed: Which member of the family.
    """
    return _drawn(dimension, seed)[0]


def emptied_mixture_reward(dimension: int, seed: int) -> Quadratic:
    """The bowl that goes with it, at strength 1: 0.1 to 0.6 of the samples are effective."""
    return _drawn(dimension, seed)[1]


def _drawn(dimension: int, seed: int) -> tuple[GaussianMixture, Quadratic]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        base, reward = _candidate(dimension, generator)
        if _empties(base, reward):
            return base, reward


def _candidate(dimension: int, generator: torch.Generator) -> tuple[GaussianMixture, Quadratic]:
    scale = SCALE * (2 / dimension) ** 0.5
    means = scale * torch.randn(MODES, dimension, generator=generator)
    least, most = VARIANCES
    variances = least + (most - least) * torch.rand(MODES, 1, 1, generator=generator)
    weights = 0.5 + torch.rand(MODES, generator=generator)
    # near a mode, as steep as brings most rewards of the base into a range of tens
    center = means[0] + torch.randn(dimension, generator=generator) / dimension**0.5
    precision = 0.1 * 10 ** torch.rand((), generator=generator)
    base = GaussianMixture(weights, means, variances * torch.eye(dimension))
    return base, Quadratic(center, precision.item())


def _empties(base: GaussianMixture, reward: Quadratic) -> bool:
    fraction = ess_fraction(base, reward)
    weights = base.tilted(reward, 1.0).weights / base.weights
    mass, weight = EMPTIED
    emptied = (base.weights >= mass) & (weights < weight)
    return EFFECTIVE[0] <= fraction.item() <= EFFECTIVE[1] and bool(emptied.any())


def ess_fraction(base: GaussianMixture, reward: Quadratic) -> Tensor:
    """E[w]^2 / E[w^2] of w = exp(reward), ()."""
    start = torch.zeros(1, base.means.shape[1])
    first, second = (base.value(start, 0.0, reward, strength)[0] for strength in (1.0, 2.0))
    return (2 * first - second).exp()
