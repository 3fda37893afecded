"""Reference samples of clusters by parallel tempering, checked by a second, independent run.

    python scripts/reference_particles.py dw4
    python scripts/reference_particles.py lj13 --chains 400 --steps 20000

Each chain has a replica at every temperature: Metropolis-adjusted Langevin steps in relative
coordinates, and swaps between neighbors. The two runs start from different noise and share nothing;
their energies and pair distances must agree as two samples of one law do. Samples of both, at the
coldest temperature and at the hottest, go to outputs/reference/<system>.
"""

import argparse
import math
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from alignflow.checkpoint import save_folder
from alignflow.metrics import Estimate, mean
from alignflow.targets import Cluster, double_well, from_relative, lennard_jones

SYSTEMS = {"dw4": double_well, "lj13": lennard_jones, "lj55": lambda: lennard_jones(55)}
ACCEPTED = 0.6  # share of moves that step lengths are tuned to, in the first half
SWAP_EVERY = 10
THIN = 500  # steps between kept samples of a chain, in the second half


class Tempering:
    """Replicas (T, C, n-1, D) of C chains at T temperatures."""

    def __init__(self, cluster: Cluster, temperatures: Tensor, chains: int, seed: int):
        self.cluster, self.generator = cluster, torch.Generator().manual_seed(seed)
        self.inverse = 1 / temperatures.double()
        shape = (len(temperatures), chains, cluster.particles - 1, cluster.dimension)
        self.state = self._normal(shape)
        self.length = torch.full((len(temperatures),), 1e-3, dtype=torch.float64)
        self.energy, self.slope = self._energies(self.state)
        self.accepted = torch.zeros(len(temperatures), dtype=torch.float64)
        self.swapped = 0.0

    def step(self, tune: bool) -> None:
        """One Langevin move of every replica, accepted as Metropolis has it."""
        beta, h = _wide(self.inverse), _wide(self.length)
        drift = self.state - h * beta * self.slope
        moved = drift + (2 * h).sqrt() * self._normal(self.state.shape)
        energy, slope = self._energies(moved)
        back = moved - h * beta * slope
        forth = (moved - drift).square().sum((2, 3)) / (4 * self.length[:, None])
        home = (self.state - back).square().sum((2, 3)) / (4 * self.length[:, None])
        log_ratio = self.inverse[:, None] * (self.energy - energy) + forth - home
        taken = self._uniform(log_ratio.shape).log() < log_ratio
        wide = taken[..., None, None]
        self.state, self.slope = (
            torch.where(wide, new, old) for new, old in ((moved, self.state), (slope, self.slope))
        )
        self.energy = torch.where(taken, energy, self.energy)
        self.accepted = taken.double().mean(1)
        if tune:
            self.length = self.length * (0.05 * (self.accepted - ACCEPTED)).exp()

    def swap(self, odd: bool) -> None:
        """Exchange replicas of neighboring temperatures, every other pair of these."""
        for low in range(int(odd), len(self.inverse) - 1, 2):
            pair = slice(low, low + 2)
            gap = self.inverse[low] - self.inverse[low + 1]
            log_ratio = gap * (self.energy[low] - self.energy[low + 1])
            taken = self._uniform(log_ratio.shape).log() < log_ratio
            self.swapped = taken.double().mean().item()
            for held in (self.state, self.energy, self.slope):
                wide = taken.reshape(-1, *[1] * (held.ndim - 2))
                held[pair] = torch.where(wide, held[pair].flip(0), held[pair])

    def _energies(self, state: Tensor) -> tuple[Tensor, Tensor]:
        flat = state.flatten(0, 1).requires_grad_()
        energy = self.cluster(from_relative(flat))
        (slope,) = torch.autograd.grad(energy.sum(), flat)
        return energy.detach().reshape(state.shape[:2]), slope.reshape(state.shape)

    def _normal(self, shape) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def _uniform(self, shape) -> Tensor:
        return torch.rand(shape, generator=self.generator, dtype=torch.float64)


def sampled(cluster: Cluster, temperatures: Tensor, chains: int, steps: int, seed: int) -> Tensor:
    """Relative coordinates (T, N, n-1, D) from the second half of a run."""
    run, kept = Tempering(cluster, temperatures, chains, seed), []
    for k in track(range(steps), f"run {seed}"):
        run.step(tune=k < steps // 2)
        if k % SWAP_EVERY == 0:
            run.swap(odd=k // SWAP_EVERY % 2 == 1)
        if k >= steps // 2 and k % THIN == 0:
            kept.append(run.state.clone())
    accepted = ", ".join(f"{share:.2f}" for share in run.accepted.tolist())
    print(f"accepted by temperature: {accepted}; swapped, of the last pair: {run.swapped:.2f}")
    return torch.cat(kept, dim=1)


def by_chain(values: Tensor, chains: int) -> Estimate:
    """Mean of values (N,), with an error that takes each chain for one sample."""
    return mean(values.reshape(-1, chains).mean(0))


def agreement(cluster: Cluster, runs: list[Tensor], chains: int) -> bool:
    """Say how far two runs are apart in mean energy and in pair distances, in standard errors."""
    fine = True
    for what, measure in {
        "energy": cluster,
        "mean pair distance": lambda x: cluster.distances(x).mean(1),
        "radius of gyration": lambda x: x.square().sum((1, 2)).sqrt(),
    }.items():
        first, second = (by_chain(measure(from_relative(run)), chains) for run in runs)
        error = math.hypot(first.standard_error, second.standard_error)
        gap = abs(first.value - second.value) / error
        fine &= gap < 4
        print(f"{what}: {first} and {second}, {gap:.1f} standard errors apart")
    return fine


def _wide(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--chains", type=int, default=500)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--hottest", type=float, default=4.0, help="in units of the coldest")
    parser.add_argument("--temperatures", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cluster = SYSTEMS[options.system]().double()
    ladder = options.hottest ** torch.linspace(0, 1, options.temperatures).double()
    runs = [sampled(cluster, ladder, options.chains, options.steps, seed) for seed in (0, 1)]
    fine = True
    for index, name in ((0, "cold"), (-1, "hot")):
        print(f"{name}, temperature {ladder[index]:g}")
        fine &= agreement(cluster, [run[index] for run in runs], options.chains)
    cold, hot = (torch.cat([run[index] for run in runs]).float() for index in (0, -1))
    facts = {"system": options.system, "temperatures": ladder.tolist(), "agree": bool(fine)}
    folder = Path("outputs") / "reference" / options.system
    print(f"samples: {save_folder(folder, {'cold': cold, 'hot': hot}, facts)}")
    if not fine:
        raise SystemExit("the two runs disagree: take more steps, chains or temperatures")


if __name__ == "__main__":
    main()
