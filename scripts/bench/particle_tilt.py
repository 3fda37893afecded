"""A cluster's flow tilted from hot to cold without cold samples: energies, distances, ESS.

    python scripts/reference_particles.py dw4
    python scripts/bench/particle_tilt.py dw4 [--steps 6000]

The flow map is learned from hot reference samples; tilt matching takes it to temperature 1 by the
reward -E, in levels that keep half of the candidates effective. Cold reference samples only judge.
The ODE's exact density gives each sample an importance weight, so that averages are unbiased; their
effective share is the ESS. Trainings are kept under outputs/particle_tilt and go on where they were
cut.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from page import table, write_page
from torch import Tensor

import alignflow as af
from alignflow.checkpoint import load_folder
from alignflow.finetuning import AdaptiveLevels
from alignflow.likelihood import push, standard_normal
from alignflow.metrics import Estimate, effective_sample_size, sliced_wasserstein
from alignflow.policies import EGNN, FlowMapPolicy
from alignflow.targets import Cluster, double_well, energy_reward, from_relative, lennard_jones

SYSTEMS = {"dw4": double_well, "lj13": lennard_jones}
KEPT = Path("outputs")
WEIGHED = 1000


def energy_distance_1d(cluster: Cluster, states: Tensor, reference: Tensor) -> Estimate:
    """W2 of the laws of energies."""
    mine, other = (cluster(from_relative(x).double())[:, None] for x in (states, reference))
    return sliced_wasserstein(mine, other, projections=1)


def pair_distance(cluster: Cluster, states: Tensor, reference: Tensor) -> Estimate:
    """W2 of the laws of the distances between particles."""
    mine, other = (cluster.distances(from_relative(x)).reshape(-1, 1) for x in (states, reference))
    return sliced_wasserstein(mine, other, projections=1)


@torch.no_grad()
def by_ode(model: Any, n: int, tolerance: float = 1e-4) -> tuple[Tensor, Tensor]:
    """n samples of the ODE and their log-densities."""
    noise = model.noise(n, torch.Generator().manual_seed(3))
    states, spread = push(model.velocity, noise, 0.0, 1.0, tolerance=tolerance)
    return states, standard_normal(noise) - spread


def rows_of(name: str, model: Any, cluster: Cluster, cold: Tensor, beta: float) -> list[list[str]]:
    """Rows of the table: by four jumps, by the ODE, and by the ODE weighed."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        jumped = model.sample(len(cold), 4, generator=generator)
    states, density = by_ode(model, WEIGHED)
    energy = cluster(from_relative(states).double())
    log_weight = -beta * energy - density.double()
    weight = log_weight.softmax(0)
    share = effective_sample_size(log_weight).item() / len(states)

    def row(title: str, states: Tensor, ess: str) -> list[str]:
        mean = cluster(from_relative(states).double()).mean().item()
        return [
            title,
            f"{mean:.2f}",
            str(energy_distance_1d(cluster, states, cold)),
            str(pair_distance(cluster, states, cold)),
            ess,
        ]

    return [
        row(f"{name}, 4 steps", jumped, ""),
        row(f"{name}, ODE", states, f"{share:.3f}"),
        [f"{name}, ODE, weighed", f"{(weight @ energy).item():.2f}", "", "", ""],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--steps", type=int, default=6000, help="of training, and of tilting")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cluster = SYSTEMS[options.system]()
    tensors, facts = load_folder(KEPT / "reference" / options.system)
    hottest = facts["temperatures"][-1]
    order = torch.randperm(len(tensors["cold"]), generator=torch.Generator().manual_seed(0))
    cold, hot = tensors["cold"][order], tensors["hot"]
    judged, floor = cold[:4000], cold[4000:8000]

    torch.manual_seed(0)
    network = EGNN(cluster.particles, cluster.dimension, 64, 3, scale=hot.std().item())
    policy = FlowMapPolicy(network, hot.shape[1:], decode="particles")
    folder = KEPT / "particle_tilt" / f"{options.system}-{options.steps}"
    start = time.perf_counter()
    base = af.pretrain(
        policy, hot, steps=options.steps, batch_size=256, learning_rate=2e-3, folder=folder / "hot"
    )
    learned = time.perf_counter() - start
    tuned = af.finetune(
        base,
        energy_reward(cluster),
        "tilt",
        1 - 1 / hottest,
        steps=options.steps,
        batch_size=256,
        learning_rate=1e-3,
        levels=AdaptiveLevels(0.5),
        recentering=options.steps // 10,
        pool=8192,
        folder=folder / "tilt",
    )
    tilted = time.perf_counter() - start - learned
    energies, distances = (
        str(measure(cluster, floor, judged)) for measure in (energy_distance_1d, pair_distance)
    )
    mean = cluster(from_relative(judged)).mean().item()
    rows = [
        ["reference", f"{mean:.2f}", energies, distances, ""],
        *rows_of("hot", base, cluster, judged, 1.0),
        *rows_of("tilted", tuned, cluster, judged, 1.0),
    ]
    levels = len(list((folder / "tilt").glob("level_*")))
    about = (
        f"From temperature {hottest:g} to 1. {len(hot):,} hot samples; {options.steps:,} steps to "
        f"learn them ({learned / 60:.1f} min) and as many to tilt ({tilted / 60:.1f} min, in "
        f"{levels} levels). Distances are to {len(judged):,} cold samples; the first row is of as "
        f"many others. ESS as a share of {WEIGHED:,} samples."
    )
    head = ["", "mean energy", "W2 of energies", "W2 of pair distances", "ESS"]
    name = f"particles_{options.system}"
    write_page(name, f"{options.system.upper()}, from hot to cold", about, table(head, rows))


if __name__ == "__main__":
    main()
