"""Targets with a name: small distributions and rewards on which methods are compared."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from alignflow import checks
from alignflow.reward_module import Reward

from .gaussian_mixture import GaussianMixture
from .rewards import Linear, Quadratic

__all__ = [
    "bump_reward",
    "cycloid_reward",
    "cycloid_ring",
    "inverse_problem",
    "inverse_problem_reward",
    "mixture",
    "mixture_linear_reward",
    "mixture_quadratic_reward",
    "ring",
    "ring_reward",
]


def ring(modes: int = 8, radius: float = 4.0, variance: float = 0.1) -> GaussianMixture:
    """Equal isotropic Gaussians, evenly on a circle in the plane."""
    modes, radius = checks.count("modes", modes), checks.positive("radius", radius)
    variance = checks.positive("variance", variance)
    angles = torch.arange(modes) * (2 * math.pi / modes)
    means = radius * torch.stack([angles.cos(), angles.sin()], dim=1)
    covariances = variance * torch.eye(2).expand(modes, 2, 2)
    return GaussianMixture(torch.ones(modes), means, covariances)


def ring_reward() -> Quadratic:
    """-0.15 |x - (3, 2)|^2: it prefers one side of the ring, and points between two modes."""
    return Quadratic(torch.tensor([3.0, 2.0]), 0.3, name="ring")


def bump_reward(center: tuple[float, float] = (4.0, 0.0), std: float = 2.5) -> Reward:
    """exp(-|x - c|^2 / (2 s^2)), which is 1 at one mode of the ring and small at the far ones.

    Args:
        center: c.
        std: s.

    Source: a tutorial of Tilt Matching (xing-mei.github.io/notes/tilt_matching_tutorial.html), on a
    ring of std 0.15 at strengths of 0.5 to 6.
    """
    checks.instance("center", center, Sequence, "a pair of numbers")
    if isinstance(center, str) or len(center) != 2:
        raise ValueError(f"center must be a pair of numbers, got {checks.shown(center)}")
    numbers = tuple(checks.finite("each number of center", number) for number in center)
    std = checks.positive("std", std)
    function = partial(_bump, center=numbers, std=std)
    return Reward(function, "bump", differentiable=True)


def _bump(x: Tensor, center: tuple[float, ...], std: float) -> Tensor:
    offset = (x - x.new_tensor(center)) / std
    return (-offset.square().sum(1) / 2).exp()


def inverse_problem() -> GaussianMixture:
    """The prior of a linear inverse problem: three Gaussians in a row in the plane.

    Source: Meta Flow Maps (2601.14430), section 7.1.1.
    """
    means = torch.tensor([[-3.0, -3.0], [0.0, 0.0], [3.0, 3.0]])
    return GaussianMixture(torch.ones(3), means, 0.5 * torch.eye(2).expand(3, 2, 2))


def inverse_problem_reward(observation: float = -1.0, std: float = 0.2) -> Quadratic:
    """The log-likelihood of an observed a^T x + noise: at strength 1 the tilt is the posterior.

    Args:
        observation: What was measured, with a = (1.2, -0.8).
        std: Of the measurement's noise.

    Source: Meta Flow Maps (2601.14430), section 7.1.1; the normalizer is left out.
    """
    observation = checks.finite("observation", observation)
    std = checks.positive("std", std)
    direction = torch.tensor([1.2, -0.8])
    center = observation * direction / direction.dot(direction)
    precision = torch.outer(direction, direction) / std**2
    return Quadratic(center, precision, name="log_likelihood")


def cycloid_ring(
    components: int = 128, radius: float = 0.95, std: float = 0.035
) -> GaussianMixture:
    """A smooth ring in the plane, of many overlapping Gaussians.

    Args:
        components: Evenly on the circle; from 128 on the density varies by less than 1e-4 along it.
        radius: Of the circle.
        std: Of each Gaussian.

    Source: the toy ring of Flow Map Trajectory Tilting (2511.22688), in the experiments that its
    authors published with their rebuttal. They say that it is a mixture of Gaussians; radius and
    std are measured in their figures (0.95; 0.035 to 0.04); the number of components is ours.
    """
    components = checks.count("components", components)
    return ring(components, radius, checks.positive("std", std) ** 2)


def cycloid_reward(
    amplitude: float = 0.08, frequency: int = 12, radius: float = 0.95, std: float = 0.03
) -> Reward:
    r"""A thin wavy line along the ring, in [0, 1]; the tilt of strength 10 lies on it.

    .. math:: r(x) = \exp\Big(-\frac{(|x| - R(\theta))^2}{2 s^2}\Big), \qquad
        R(\theta) = \rho + a (\cos f \theta + 0.3 \sin(2 f \theta + 0.5))

    Args:
        amplitude: a, of the wave.
        frequency: f, periods around the ring.
        radius: rho, of the ring that the line winds around.
        std: s, the line's width.

    Source: as `cycloid_ring`. Amplitude and frequency are stated there. The rest is measured in the
    published picture of the reward, which this formula meets within 0.01 (root mean square, near
    the line; far from the ring theirs is 0.04, not 0), as is the strength in the histogram of
    rewards under the tilt.
    """
    settings = {
        "amplitude": checks.finite("amplitude", amplitude),
        "frequency": checks.count("frequency", frequency, least=0),
        "radius": checks.finite("radius", radius),
        "std": checks.positive("std", std),
    }
    return Reward(partial(_cycloid, **settings), "cycloid", differentiable=True)


def _cycloid(x: Tensor, amplitude: float, frequency: int, radius: float, std: float) -> Tensor:
    angle = frequency * torch.atan2(x[:, 1], x[:, 0])
    line = radius + amplitude * (angle.cos() + 0.3 * (2 * angle + 0.5).sin())
    return (-((x.norm(dim=1) - line) / std).square() / 2).exp()


def mixture(
    dimension: int, components: int = 4, seed: int = 0, separation: float = 4.0
) -> GaussianMixture:
    """Gaussians of full and unequal covariances and weights, in any dimension.

    The largest std is 0.55 and the smallest 0.22, so that with the closest means 4 apart
    hardly a sample leaves the mode it belongs to. The mean of the whole is zero.

    Args:
        dimension: D.
        components: C, at least two.
        seed: Which member of the family: all of it is drawn from this seed.
        separation: Of the closest means; from 1 down the modes run into each other.
    """
    dimension = checks.count("dimension", dimension)
    components = checks.count("components", components, least=2)
    separation = checks.positive("separation", separation)
    generator = torch.Generator().manual_seed(checks.count("seed", seed, least=0))
    weights = 0.5 + torch.rand(components, generator=generator, dtype=torch.float64)
    weights = weights / weights.sum()
    candidates = torch.randn(64 * components, dimension, generator=generator).double()
    means = _far_apart(candidates, components)
    means = separation * means / torch.pdist(means).min()
    shape = components, dimension, dimension
    axes = torch.linalg.qr(torch.randn(shape, generator=generator).double()).Q
    power = torch.arange(dimension) + torch.rand(components, 1, dimension, generator=generator)
    variances = 0.05 * 6 ** (power.double() / dimension)  # unequal, so that none is isotropic
    covariances = (axes * variances) @ axes.mT
    return GaussianMixture(weights.float(), (means - weights @ means).float(), covariances.float())


def mixture_linear_reward(target: GaussianMixture) -> Linear:
    """The direction from a mixture's mean to its lightest mode: a tilt along it moves the weights.

    It is scaled so that the rewards of the modes' means span 2: from the worst mode to the best a
    unit of strength multiplies the odds by about e^2. The ESS fraction of samples from
    `mixture(dimension)` with weights exp(strength r) falls, at strengths 0.5, 1, 2 and 4, as 0.88,
    0.64, 0.33 and 0.20 in one dimension and as 0.82, 0.47, 0.20 and 0.10 in 32.
    """
    lightest = target.means[target.weights.argmin()]
    direction = lightest - target.weights @ target.means
    return Linear(direction * _unit_span(target.means @ direction))


def mixture_quadratic_reward(target: GaussianMixture) -> Quadratic:
    """A bowl around a mixture's lightest mode: its tilt moves weights, means and covariances.

    Scaled as `mixture_linear_reward`; the ESS fractions are 0.90, 0.74, 0.51 and 0.31 in one
    dimension and 0.84, 0.54, 0.25 and 0.16 in 32.
    """
    lightest = target.means[target.weights.argmin()]
    span = _unit_span((target.means - lightest).square().sum(1) / 2)
    return Quadratic(lightest, span)


def _unit_span(rewards: Tensor) -> Tensor:
    """The factor by which the rewards of the modes span 2."""
    return 2 / (rewards.max() - rewards.min())


def _far_apart(candidates: Tensor, count: int) -> Tensor:
    """As many of the candidates (N, D), each in turn the farthest from those already chosen."""
    chosen = candidates[:1]
    while len(chosen) < count:
        farthest = torch.cdist(candidates, chosen).amin(1).argmax()
        chosen = torch.cat([chosen, candidates[farthest, None]])
    return chosen
