"""Reference samples of clusters by parallel tempering, checked by a second, independent run.

    python scripts/reference_particles.py dw4 --chains 500 --steps 20000 --temperatures 5
    python scripts/reference_particles.py lj13 --hottest 2

Each chain has a replica at every temperature: Metropolis-adjusted Langevin steps in relative
coordinates, and swaps between neighbors. The two runs start from different noise and share nothing;
their energies and pair distances must agree as two samples of one law do. Samples of both, at the
coldest temperature and at the hottest, go to outputs/reference/<system>; `--ship` puts 4,000 and
8,000 of them where the package has them, in half precision.
"""

import argparse
import math
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from alignflow.checkpoint import save_folder
from alignflow.coordinates import from_relative
from alignflow.metrics import Estimate, mean
from alignflow.targets import CLUSTERS, Cluster

SHIPPED = Path(__file__).parents[1] / "alignflow" / "targets" / "shipped"
KEPT = {"cold": 4000, "hot": 8000}
APART = 4  # standard errors that two runs of one law may be apart
RELAXATION, RELAXED_BY = 500, 0.02  # steps downhill at the start, and how far they go at most
ACCEPTED = 0.6  # share of moves that step lengths are tuned to, in the first half
STUCK = 0.1  # share of moves below which a replica has not sampled
SWAP_EVERY = 10
THIN = 400  # steps between kept samples of a chain, in the second half


class Tempering:
    """Replicas (T, C, n-1, D) of C chains at T temperatures."""

    def __init__(self, cluster: Cluster, temperatures: Tensor, chains: int, seed: int):
        self.cluster, self.generator = cluster, torch.Generator().manual_seed(seed)
        self.inverse = 1 / temperatures.double()
        shape = (len(temperatures), chains, cluster.particles - 1, cluster.dimension)
        self.state = self._relaxed(self._normal(shape))
        self.length = torch.full((len(temperatures),), 1e-3, dtype=torch.float64)
        self.energy, self.slope = self._energies(self.state)
        self.accepted = torch.zeros(len(temperatures), dtype=torch.float64)
        self.moves = torch.zeros(shape[:2], dtype=torch.int64)
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
        self.moves += taken
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

    def _relaxed(self, state: Tensor) -> Tensor:
        """Downhill by short steps: from overlapping particles no Metropolis move is accepted."""
        for _ in range(RELAXATION):
            _, slope = self._energies(state)
            length = torch.linalg.vector_norm(slope, dim=(2, 3), keepdim=True)
            state = state - slope * (RELAXED_BY / length.clamp_min(1.0))
        return state

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
    if (still := (run.moves < STUCK * steps).sum()) > 0:
        raise SystemExit(f"{still} of {run.moves.numel()} replicas hardly moved: relax them longer")
    accepted = ", ".join(f"{share:.2f}" for share in run.accepted.tolist())
    print(f"accepted by temperature: {accepted}; swapped, of the last pair: {run.swapped:.2f}")
    return torch.cat(kept, dim=1)


def by_chain(values: Tensor, chains: int) -> Estimate:
    """Mean of values (N,), with an error that takes each chain for one sample."""
    return mean(values.reshape(-1, chains).mean(0))


def agreement(cluster: Cluster, runs: list[Tensor], chains: int) -> dict[str, float]:
    """How far two runs are apart in energy, pair distances and radius, in standard errors."""
    gaps = {}
    for what, measure in {
        "energy": cluster,
        "mean pair distance": lambda x: cluster.distances(x).mean(1),
        "radius of gyration": lambda x: x.square().sum((1, 2)).sqrt(),
    }.items():
        first, second = (by_chain(measure(from_relative(run)), chains) for run in runs)
        error = math.hypot(first.standard_error, second.standard_error)
        gaps[what] = abs(first.value - second.value) / error
        print(f"{what}: {first} and {second}, {gaps[what]:.1f} standard errors apart")
    return gaps


def ship(folder: Path, found: dict[str, Tensor], facts: dict) -> None:
    """Keep some of the samples, drawn from all chains and times, in half precision."""
    generator = torch.Generator().manual_seed(2)
    rows = {name: torch.randperm(len(x), generator=generator) for name, x in found.items()}
    few = {name: x[rows[name][: KEPT[name]]].half() for name, x in found.items()}
    print(f"shipped: {save_folder(folder, few, facts)}")


def _wide(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=CLUSTERS)
    parser.add_argument("--chains", type=int, default=300)
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--hottest", type=float, default=4.0, help="in units of the coldest")
    parser.add_argument("--temperatures", type=int, default=4)
    parser.add_argument("--ship", action="store_true", help="put some of them into the package")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cluster = CLUSTERS[options.system]().double()
    ladder = options.hottest ** torch.linspace(0, 1, options.temperatures).double()
    runs = [sampled(cluster, ladder, options.chains, options.steps, seed) for seed in (0, 1)]
    found, gaps = {}, {}
    for index, name in ((0, "cold"), (-1, "hot")):
        print(f"{name}, temperature {ladder[index]:g}")
        gaps[name] = agreement(cluster, [run[index] for run in runs], options.chains)
        found[name] = torch.cat([run[index] for run in runs]).float()
    facts = {
        "temperatures": ladder.tolist(),
        "chains": options.chains,
        "steps": options.steps,
        "standard_errors_apart": gaps,
    }
    folder = Path("outputs") / "reference" / options.system
    print(f"samples: {save_folder(folder, found, facts)}")
    if max(gap for level in gaps.values() for gap in level.values()) > APART:
        raise SystemExit("the two runs disagree: take more steps, chains or temperatures")
    if options.ship:
        ship(SHIPPED / options.system, found, facts)


if __name__ == "__main__":
    main()
