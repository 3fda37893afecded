"""Reference samples of clusters by parallel tempering, checked by a second, independent run.

    python scripts/reference_particles.py dw4 --chains 500 --steps 20000 --temperatures 5
    python scripts/reference_particles.py lj13 --hottest 2

Each chain has a replica at every temperature: Metropolis-adjusted Langevin moves in relative
coordinates, whose sizes are tuned in the first half, and swaps between neighbors. The two runs
start from different noise and share nothing; their energies and pair distances must agree as two
samples of one distribution do. Samples of both, at the coldest temperature and at the hottest, go
to outputs/reference/<system>; `--ship` puts 4,000 and 8,000 of them where the package has them, in
half precision.
"""

import argparse
import math
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from alignflow.checkpoint import save_folder
from alignflow.coordinates import from_relative
from alignflow.mala import ACCEPTED, move, point_at
from alignflow.metrics import Estimate, mean
from alignflow.targets import CLUSTERS, Cluster

SHIPPED = Path(__file__).parents[1] / "alignflow" / "targets" / "shipped"
SHIPPED_ROWS = {"cold": 4000, "hot": 8000}
APART = 4  # standard errors that two runs may be apart
RELAXATION, RELAXED_BY = 500, 0.02  # steps downhill at the start, and how far they go at most
STUCK = 0.1  # fraction of moves below which a replica has not sampled
SWAP_EVERY = 10
THIN = 400  # steps between stored samples of a chain, in the second half


class Tempering:
    """Replicas of C chains at T temperatures, T C of them, temperature by temperature."""

    def __init__(self, cluster: Cluster, temperatures: Tensor, chains: int, seed: int):
        self.cluster, self.generator = cluster, torch.Generator().manual_seed(seed)
        self.inverse, self.chains = 1 / temperatures.double(), chains
        count = len(temperatures) * chains
        shape = (count, cluster.particles - 1, cluster.dimension)
        noise = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        self.point = point_at(self._log_density, self._relaxed(noise))
        self.size = torch.full((len(temperatures),), 1e-3, dtype=torch.float64)
        self.accepted = torch.zeros(len(temperatures), dtype=torch.float64)
        self.moves = torch.zeros(count, dtype=torch.int64)
        self.swapped = 0.0

    @property
    def states(self) -> Tensor:
        """(T, C, n-1, D)."""
        return self._by_temperature(self.point.state)

    def step(self, tune: bool) -> None:
        """One Langevin move of every replica."""
        sizes = self.size.repeat_interleave(self.chains)
        self.point, accepted = move(self.point, sizes, self._log_density, self.generator)
        self.accepted = self._by_temperature(accepted).double().mean(1)
        self.moves += accepted
        if tune:
            self.size = self.size * (0.05 * (self.accepted - ACCEPTED)).exp()

    def swap(self, odd: bool) -> None:
        """Exchange replicas of neighboring temperatures, every other pair of these."""
        state, log_prob, grad = map(self._by_temperature, self.point)
        for low in range(int(odd), len(self.inverse) - 1, 2):
            pair = slice(low, low + 2)
            inverse = self.inverse[pair, None]
            energy = -log_prob[pair] / inverse
            log_ratio = (inverse[0] - inverse[1]) * (energy[0] - energy[1])
            chance = torch.rand(self.chains, generator=self.generator, dtype=torch.float64)
            accepted = chance.log() < log_ratio
            self.swapped = accepted.double().mean().item()
            rescaled = inverse / inverse.flip(0)  # log-densities at the other temperature
            for values, factor in (
                (state, torch.ones_like(rescaled)),
                (log_prob, rescaled),
                (grad, rescaled),
            ):
                wide = [-1, *[1] * (values.ndim - 2)]
                exchanged = values[pair].flip(0) * factor.reshape(2, *wide)
                values[pair] = torch.where(accepted.reshape(wide), exchanged, values[pair])

    def _relaxed(self, state: Tensor) -> Tensor:
        """Downhill by short steps: from overlapping particles no Metropolis move is accepted."""
        for _ in range(RELAXATION):
            uphill = point_at(lambda x: self.cluster(from_relative(x)), state).grad
            length = torch.linalg.vector_norm(uphill, dim=(1, 2), keepdim=True)
            state = state - uphill * (RELAXED_BY / length.clamp_min(1.0))
        return state

    def _log_density(self, x: Tensor) -> Tensor:
        return -self.inverse.repeat_interleave(self.chains) * self.cluster(from_relative(x))

    def _by_temperature(self, values: Tensor) -> Tensor:
        return values.unflatten(0, (len(self.inverse), self.chains))


def sampled(cluster: Cluster, temperatures: Tensor, chains: int, steps: int, seed: int) -> Tensor:
    """Relative coordinates (T, N, n-1, D) from the second half of a run."""
    run, parts = Tempering(cluster, temperatures, chains, seed), []
    for k in track(range(steps), f"run {seed}"):
        run.step(tune=k < steps // 2)
        if k % SWAP_EVERY == 0:
            run.swap(odd=k // SWAP_EVERY % 2 == 1)
        if k >= steps // 2 and k % THIN == 0:
            parts.append(run.states.clone())
    if (still := (run.moves < STUCK * steps).sum()) > 0:
        raise SystemExit(f"{still} of {run.moves.numel()} replicas hardly moved: relax them longer")
    accepted = ", ".join(f"{fraction:.2f}" for fraction in run.accepted.tolist())
    print(f"accepted by temperature: {accepted}; swapped, of the last pair: {run.swapped:.2f}")
    return torch.cat(parts, dim=1)


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
    """Store some of the samples, drawn from all chains and times, in half precision."""
    generator = torch.Generator().manual_seed(2)
    rows = {name: torch.randperm(len(x), generator=generator) for name, x in found.items()}
    few = {name: x[rows[name][: SHIPPED_ROWS[name]]].half() for name, x in found.items()}
    print(f"shipped: {save_folder(folder, few, facts)}")


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
    if max(gap for found in gaps.values() for gap in found.values()) > APART:
        raise SystemExit("the two runs disagree: take more steps, chains or temperatures")
    if options.ship:
        ship(SHIPPED / options.system, found, facts)


if __name__ == "__main__":
    main()
