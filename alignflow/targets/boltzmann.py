r"""Boltzmann laws of clusters, known by their energy and by samples of a reference sampler.

.. math:: \rho_T(x) \propto e^{-E(x) / T}

The shipped samples are by parallel tempering; `scripts/reference_particles.py` makes them again.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from alignflow import checks
from alignflow.checkpoint import CheckpointError, fact, load_folder
from alignflow.coordinates import from_relative

from .particles import Cluster, build_cluster

__all__ = ["Boltzmann", "boltzmann"]

LEVELS = ("cold", "hot")
SHIPPED = Path(__file__).parent / "shipped"


class Boltzmann:
    """The law of a cluster at a temperature: its log-density up to a constant, and samples.

    Args:
        cluster: Whose energy.
        temperature: T, in the units of the energy.
        samples: Of the law, in relative coordinates, (N, n-1, D).
    """

    def __init__(self, cluster: Cluster, temperature: float, samples: Tensor):
        expected = (cluster.particles - 1, cluster.dimension)
        if samples.shape[1:] != expected or not len(samples):
            raise ValueError(
                f"samples must be relative coordinates (N, {expected[0]}, {expected[1]}), N >= 1, "
                f"got {tuple(samples.shape)}"
            )
        self.temperature = checks.positive("temperature", temperature)
        self.cluster, self.samples = cluster, samples

    @property
    def event_shape(self) -> torch.Size:
        """(n-1, D)."""
        return self.samples.shape[1:]

    @property
    def observables(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """What is looked at beside the energy, of clusters (N, n, D)."""
        return {"pair distance": self.cluster.distances}

    def log_density(self, x: Tensor) -> Tensor:
        """-E(x) / T of states (N, n-1, D), in nats up to a constant, float64, (N,)."""
        return -self.cluster(from_relative(x.double())) / self.temperature

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n different ones of the samples, in random order.

        Raises:
            ValueError: If there are not as many.
        """
        n, generator = checks.count("n", n), checks.as_generator(generator)
        if n > len(self):
            raise ValueError(f"asked for {n} samples of the reference, which has {len(self)}")
        return self.samples[torch.randperm(len(self), generator=generator)[:n]]

    def __len__(self) -> int:
        return len(self.samples)


def boltzmann(cluster: str, level: str = "cold", folder: str | Path | None = None) -> Boltzmann:
    """A cluster's reference at temperature 1, or hot, from where its tilt starts.

    Args:
        cluster: "dw4" or "lj13", which are shipped, or "lj55".
        level: "cold" or "hot".
        folder: That `scripts/reference_particles.py` wrote; by default the shipped one.

    Raises:
        ValueError: If there is no such cluster or level.
        CheckpointError: If the samples are missing, truncated or altered.
    """
    law, level = build_cluster(cluster), checks.choice("level", level, LEVELS)
    source = SHIPPED / cluster if folder is None else folder
    tensors, facts = load_folder(source)
    temperatures = fact(facts, "temperatures", list, source)
    if level not in tensors or not temperatures:
        raise CheckpointError(f"{source} holds no samples of a {level} cluster with temperatures")
    temperature = temperatures[0 if level == "cold" else -1]
    try:
        # shipped in half precision, which moves an energy by a hundredth of its spread at most
        return Boltzmann(law, checks.positive("temperature", temperature), tensors[level].float())
    except ValueError as error:
        raise CheckpointError(f"{source} holds no reference of {cluster}: {error}") from error
