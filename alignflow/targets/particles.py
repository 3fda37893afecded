r"""Energies of small clusters of particles; their Boltzmann distributions are tilts of a base.

.. math:: \rho(x) \propto e^{-E(x) / T}, \qquad \sum_i x_i = 0

Clusters are (n, D), n particles in D dimensions, free of their mean: no energy changes when all of
them move together. Flows run in relative coordinates (n-1, D), which `decode="particles"` undoes
(`alignflow.coordinates`). The tilt of the reward -E, of strength 1 / T_cold - 1 / T_hot, turns the
distribution at T_hot into that at T_cold.
"""

from collections.abc import Callable
from functools import partial
from itertools import combinations

import torch
from torch import Tensor, nn

from alignflow import checks
from alignflow.coordinates import mean_free
from alignflow.reward_module import Reward

__all__ = [
    "CLUSTERS",
    "Cluster",
    "build_cluster",
    "double_well",
    "energy_reward",
    "lennard_jones",
]


class Cluster(nn.Module):
    """Particles with a potential between each two of them, and perhaps a spring to their mean.

    Called on clusters (N, n, D) it is their energy (N,).

    Args:
        particles: n.
        dimension: D.
        pair: The potential, of distances elementwise.
        spring: k of k/2 sum |x_i - mean|^2.
    """

    first: Tensor
    second: Tensor

    def __init__(self, particles: int, dimension: int, pair: nn.Module, spring: float = 0.0):
        super().__init__()
        particles = checks.count("particles", particles, least=2)
        dimension = checks.count("dimension", dimension)
        spring = checks.finite("spring", spring)
        self.particles, self.dimension, self.pair, self.spring = particles, dimension, pair, spring
        pairs = torch.tensor(list(combinations(range(particles), 2)))
        self.register_buffer("first", pairs[:, 0])
        self.register_buffer("second", pairs[:, 1])

    @property
    def event_shape(self) -> torch.Size:
        """(n, D)."""
        return torch.Size((self.particles, self.dimension))

    def distances(self, x: Tensor) -> Tensor:
        """Between each two particles, (N, n (n-1) / 2)."""
        if x.shape[1:] != self.event_shape:
            raise ValueError(f"states must be (N, {self.particles}, {self.dimension}), "
                             f"got {tuple(x.shape)}")  # fmt: skip
        offset = x[:, self.first] - x[:, self.second]
        # two particles in one place have no direction to part in, but a gradient that is a number
        tiny = torch.finfo(x.dtype).tiny
        return offset.square().sum(-1).clamp_min(tiny).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        energy = self.pair(self.distances(x)).sum(1)
        if self.spring:
            energy = energy + self.spring / 2 * mean_free(x).square().sum((1, 2))
        return energy


class LennardJonesPair(nn.Module):
    r""":math:`\epsilon ((r_m/d)^{12} - 2 (r_m/d)^6)`, continued linearly inside the core.

    The core is where no sample comes: with it overlapping particles have a finite energy, and a
    gradient that parts them.

    Args:
        depth: epsilon.
        minimum: r_m, the distance of least energy.
        core: Fraction of r_m below which the line begins.
    """

    def __init__(self, depth: float = 1.0, minimum: float = 1.0, core: float = 0.5):
        super().__init__()
        self.depth, self.minimum, self.core = depth, minimum, core

    def forward(self, distance: Tensor) -> Tensor:
        relative = distance / self.minimum
        outside = relative.clamp_min(self.core)
        inverse = outside.pow(-6)
        energy = inverse.square() - 2 * inverse
        derivative = -12 * (self.core**-13 - self.core**-7)
        return self.depth * (energy + derivative * (relative - outside))


class DoubleWellPair(nn.Module):
    """b (d - d_0)^2 + c (d - d_0)^4, with a well on either side of d_0 where b is negative."""

    def __init__(self, square: float, fourth: float, center: float):
        super().__init__()
        self.square, self.fourth, self.center = square, fourth, center

    def forward(self, distance: Tensor) -> Tensor:
        square = (distance - self.center).square()
        return self.square * square + self.fourth * square.square()


def lennard_jones(particles: int = 13) -> Cluster:
    """LJ-13, LJ-55 and other clusters in space, as iDEM has them.

    Its sum runs over ordered pairs, so that each pair counts twice: epsilon is 2 here, r_m is 1,
    the spring is 1. In units of 4 eps ((sigma/r)^12 - (sigma/r)^6) that is eps = 2 and sigma =
    2^(-1/6), and the pair part of 13 particles at their icosahedron is 2 x -44.3268.

    Source: Akhound-Sadegh et al. 2024 (2402.06121) and its released code; the minimum: Wales and
    Doye 1997 (cond-mat/9803344).
    """
    return Cluster(particles, 3, LennardJonesPair(depth=2.0), spring=1.0)


def double_well(particles: int = 4) -> Cluster:
    """DW-4: particles in the plane with two favored distances, in units of the temperature.

    Source: Koehler et al. 2020 (2006.02425): a = 0, b = -4, c = 0.9, d_0 = 4, tau = 1.
    """
    return Cluster(particles, 2, DoubleWellPair(square=-4.0, fourth=0.9, center=4.0))


CLUSTERS: dict[str, Callable[[], Cluster]] = {
    "dw4": double_well,
    "lj13": lennard_jones,
    "lj55": partial(lennard_jones, 55),
}


def build_cluster(name: str) -> Cluster:
    """A cluster by name.

    Raises:
        ValueError: If there is none of this name.
    """
    return CLUSTERS[checks.choice("cluster", name, CLUSTERS)]()


def energy_reward(cluster: Cluster | str) -> Reward:
    """-E, in the units of E; strength 1 / T - 1 / T_0 tilts from temperature T_0 to T."""
    if isinstance(cluster, str):
        cluster = build_cluster(cluster)
    return Reward(_Negative(cluster), "energy", differentiable=True)


class _Negative(nn.Module):
    def __init__(self, cluster: Cluster):
        super().__init__()
        self.cluster = cluster

    def forward(self, x: Tensor) -> Tensor:
        return -self.cluster(x)
