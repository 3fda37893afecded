"""LJ-13 by a ladder of temperatures: a network learned anew on corrected samples at each.

    python scripts/bench/particle_ladder.py [--steps 500 500 3000]

The first network learns the hot samples. Its own samples are moved by Langevin until they follow
the hot distribution, then annealed to the next temperature by resampling and moves, and the next
network, which starts as the last one, learns those. Cold samples of the reference only judge. All
is kept under outputs/lj13_ladder, where a run that was cut goes on.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch
from page import shown, table, write_page
from particle_tilt import PUBLISHED
from tensordict import TensorDict
from torch import Tensor

from alignflow.checkpoint import is_saved, load_folder, save_folder
from alignflow.coordinates import from_relative
from alignflow.distillation import LogitNormalTimes, TargetScoreLoss
from alignflow.draws import choices, integers
from alignflow.jump_likelihood import sample_with_jump_density
from alignflow.mala import ACCEPTED, move, point_at
from alignflow.metrics import (
    cluster_wasserstein,
    effective_sample_size,
    mean,
    reweighted_mean,
    sliced_wasserstein,
)
from alignflow.policies import FlowMapPolicy, ForceEGNN, from_flow_map
from alignflow.samplers import DenoiserODE
from alignflow.targets import Boltzmann, Cluster, boltzmann
from alignflow.training import TrainingOptions, fit

FOLDER = Path("outputs") / "lj13_ladder"
CLUSTER, TEMPERATURES = "lj13", (2.0, 4 / 3, 1.0)
PARTICLES, STEPS = 1024, 12  # clusters that are drawn between two networks, in so many steps
NEAREST = 3e-3  # 1 - t where the last step begins
FINE = 50  # steps of a sample that is judged
ALIGNED = 500  # clusters that are aligned, at a cost that is quadratic
PARTS, MOVES, SETTLING, SNAPSHOTS = 16, 25, 200, 16


def grid(steps: int) -> Tensor:
    """Times of equal steps in -log(1-t), and a last one to 1, (steps + 1,)."""
    return torch.cat([1 - NEAREST ** torch.linspace(0, 1, steps).double(), torch.ones(1).double()])


def draw(policy: FlowMapPolicy, n: int, steps: int, seed: int) -> Tensor:
    """n samples, (n, *E), by so many steps of two evaluations."""
    generator, parts = seeded(seed), []
    for start in range(0, n, 256):
        count = min(256, n - start)
        drawn = policy.sample(count, grid=grid(steps), sampler=DenoiserODE(), generator=generator)
        parts.append(drawn)
    return torch.cat(parts)


def moved(
    cluster: Cluster, state: Tensor, inverse: float, moves: int, generator: torch.Generator
) -> Tensor:
    """States (N, n-1, D) after Langevin moves at an inverse temperature, float64."""
    size, at = 1e-4, point_at(lambda x: -inverse * cluster(from_relative(x)), state.double())
    for _ in range(moves):
        at, accepted = move(at, size, lambda x: -inverse * cluster(from_relative(x)), generator)
        size *= math.exp(0.2 * (accepted.double().mean().item() - ACCEPTED))
    return at.state


def corrected(
    cluster: Cluster, state: Tensor, hot: float, cold: float, generator: torch.Generator
) -> Tensor:
    """Samples of a model at one temperature as samples at the next, (SNAPSHOTS N, n-1, D)."""
    inverses = torch.linspace(1 / hot, 1 / cold, PARTS + 1).tolist()
    state = moved(cluster, state, inverses[0], SETTLING, generator)
    for last, inverse in zip(inverses, inverses[1:], strict=False):
        log_weight = (last - inverse) * cluster(from_relative(state))
        state = state[choices(log_weight.softmax(0), len(state), generator)]
        state = moved(cluster, state, inverse, MOVES, generator)
    snapshots = []
    for _ in range(SNAPSHOTS):
        state = moved(cluster, state, inverses[-1], 2 * MOVES, generator)
        snapshots.append(state)
    return torch.cat(snapshots).float()


def learned(
    policy: FlowMapPolicy, target: Boltzmann, steps: int, batch_size: int, folder: Path
) -> FlowMapPolicy:
    """A policy that starts as the one given, after so many steps on samples of its temperature."""
    data, score = target.samples, scores(target)
    stiffness = score.square().mean().item()
    start = ForceEGNN(CLUSTER, target.temperature, stiffness=stiffness)
    start.load_state_dict(policy.module.state_dict())
    trained, generator = policy_of(start), seeded(0)
    loss = TargetScoreLoss(trained, stiffness, LogitNormalTimes(1.2, 1.4), generator)

    def batch(generator: torch.Generator) -> TensorDict:
        rows = integers(len(data), (batch_size,), generator)
        return TensorDict({"data": data[rows], "score": score[rows]}, batch_size=batch_size)

    options = TrainingOptions(
        warmup=100, decay=0.5, ema_decay=0.998, checkpoint_every=100, learning_rate=1e-3
    )
    return fit(
        loss, trained, batch, steps=steps, generator=generator, folder=folder, options=options
    ).eval()


def scores(target: Boltzmann) -> Tensor:
    """Of the samples of a distribution, (N, n-1, D)."""
    return point_at(target.log_density, target.samples.double()).grad.float()


def policy_of(network: ForceEGNN) -> FlowMapPolicy:
    event_shape = (network.energy.particles - 1, network.energy.dimension)
    return FlowMapPolicy(network, event_shape, decode="particles")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def climb(steps: list[int], batch_size: int) -> list[FlowMapPolicy]:
    """The policies at each temperature."""
    target = boltzmann(CLUSTER, "hot")
    torch.manual_seed(0)
    policies = [policy_of(ForceEGNN(CLUSTER))]
    for level, temperature in enumerate(TEMPERATURES):
        folder = FOLDER / f"level_{level}"
        if level:
            target = annealed(policies[-1], target, temperature, folder / "samples", seed=level)
        policies.append(learned(policies[-1], target, steps[level], batch_size, folder))
    return policies[1:]


def annealed(
    policy: FlowMapPolicy, last: Boltzmann, temperature: float, folder: Path, seed: int
) -> Boltzmann:
    """The distribution at a temperature, by corrected samples of the policy at the last one."""
    if not is_saved(folder):
        drawn = draw(policy, PARTICLES, STEPS, seed)
        data = corrected(last.cluster, drawn, last.temperature, temperature, seeded(seed))
        save_folder(folder, {"drawn": drawn, "data": data}, {})
    return Boltzmann(last.cluster, temperature, load_folder(folder)[0]["data"])


def kept(folder: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What is saved in a folder, or else is made and saved."""
    if not is_saved(folder):
        save_folder(folder, make(), {})
    return load_folder(folder)[0]


def weighed(policy: FlowMapPolicy, target: Boltzmann, n: int) -> dict[str, Tensor]:
    """n samples of few steps, and their log-weights under the target, (n,), by Jacobians."""

    def step(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return DenoiserODE().step(policy, x, s[0].item(), t[0].item())

    steps, generator = from_flow_map(step, policy.event_shape), seeded(2)
    states, log_weights = [], []
    for start in range(0, n, 32):
        count = min(32, n - start)
        state, density = sample_with_jump_density(steps, count, generator, grid=grid(STEPS))
        states.append(state)
        log_weights.append(target.log_density(state) - density.double())
    return {"state": torch.cat(states), "log_weight": torch.cat(log_weights)}


def row(name: str, state: Tensor, target: Boltzmann, judge: Tensor) -> list[str]:
    """Of a table of samples without weights: mean energy, and distances to as many of a judge."""
    found, exact = from_relative(state.double()), from_relative(judge[: len(state)].double())
    energy, least = target.cluster(found), target.cluster(exact)
    distances = sliced_wasserstein(energy[:, None], least[:, None], 1, seeded(0))
    near = slice(min(len(found), ALIGNED))
    clusters = cluster_wasserstein(found[near], exact[near])
    return [name, f"{len(state):,}", *map(shown, (mean(energy), distances, clusters))]


def averages(name: str, drawn: dict[str, Tensor], target: Boltzmann) -> list[str]:
    """Of a table of weighed averages: energy, mean pair distance, radius of gyration."""
    found, log_weight = from_relative(drawn["state"].double()), drawn["log_weight"]
    measured = [reweighted_mean(values, log_weight) for values in observed(target, found)]
    fraction = effective_sample_size(log_weight).item() / len(found)
    return [name, f"{len(found):,}", f"{fraction:.3f}", *map(shown, measured)]


def observed(target: Boltzmann, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Energy, mean pair distance and radius of gyration of clusters, (N,) each."""
    return (
        target.cluster(x),
        target.cluster.distances(x).mean(1),
        x.square().sum((1, 2)).div(x.shape[1]).sqrt(),
    )


def judged(policies: list[FlowMapPolicy], samples: int, weighing: int) -> tuple[str, str]:
    """The tables, of weighed averages and of samples, by models and the reference."""
    cold = boltzmann(CLUSTER)
    order = cold.sample(len(cold), seeded(0))
    judge, others = order[:samples], order[samples : 2 * samples]
    rows = [row("reference", others, cold, judge)]
    learned_from = load_folder(FOLDER / f"level_{len(policies) - 1}" / "samples")[0]["data"]
    few = learned_from[choices(torch.ones(len(learned_from)), samples, seeded(6))]
    rows.append(row("corrected samples, which the cold network learned", few, cold, judge))
    for name, policy in (("hot network", policies[0]), ("cold network", policies[-1])):
        place = FOLDER / "evaluation" / name.replace(" ", "_")
        drawn = kept(place, lambda policy=policy: {"state": draw(policy, samples, FINE, 1)})
        rows.append(row(name, drawn["state"], cold, judge))
    moves = kept(
        FOLDER / "evaluation" / "moved",
        lambda: {"state": moved(cold.cluster, drawn["state"], 1.0, SETTLING, seeded(3))},
    )
    rows.append(row(f"cold network, {SETTLING} moves", moves["state"], cold, judge))
    by_weight = kept(
        FOLDER / "evaluation" / "weighed", lambda: weighed(policies[-1], cold, weighing)
    )
    rows.append(row(f"cold network, {2 * STEPS} evaluations", by_weight["state"], cold, judge))
    chosen = choices(by_weight["log_weight"].softmax(0), weighing, seeded(4))
    state = moved(cold.cluster, by_weight["state"][chosen], 1.0, SETTLING, seeded(5))
    rows.append(row(f"the same, resampled, {SETTLING} moves", state, cold, judge))
    exact = [mean(values) for values in observed(cold, from_relative(cold.samples.double()))]
    weighted = [
        ["reference", f"{len(cold):,}", "", *map(shown, exact)],
        averages("cold network", by_weight, cold),
    ]
    head = ["", "samples", "mean energy", "W2, energy", "W2, cluster"]
    names = ["", "samples", "effective fraction", "energy", "pair distance", "radius"]
    return table(names, weighted), table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs=3, default=(500, 500, 3000))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--weighed", type=int, default=192)
    options = parser.parse_args()
    torch.set_num_threads(1)
    policies = climb(options.steps, options.batch)
    moves = 2 * (SETTLING + PARTS * MOVES + SNAPSHOTS * 2 * MOVES)
    counts = ", ".join(f"{count:,}" for count in options.steps)
    about = (
        f"EGNN of 5 layers of width 64 with forces (`ForceEGNN`), {counts} steps of batch "
        f"{options.batch} at temperatures 2, 4/3 and 1 (`TargetScoreLoss`). Between two networks "
        f"{PARTICLES:,} clusters are drawn in {STEPS} steps and moved, {moves // 2:,} Langevin "
        f"moves each, {moves * PARTICLES / 1e6:.1f} million energies and gradients in all. "
        f"Steps are of two evaluations, equal in -log(1-t) up to 1 - t = {NEAREST:g}. The base "
        "has hot samples to learn, which the published samplers have not."
    )
    headline = (
        f"Averages weighed by the Boltzmann density over the model's own, of samples in {STEPS} "
        "steps with the Jacobians of the steps:"
    )
    samples = (
        f"Samples without weights, in {FINE} steps where nothing else is said; the first row is of "
        "as many others of the reference. W2 of clusters is over the best rotation and "
        f"permutation, of {ALIGNED:,} at most, and falls as more are compared. Moved samples have "
        f"taken {SETTLING} Langevin moves at temperature 1:"
    )
    found = (
        "A plain network ([tilted](particles_lj13.md)) learned from sixteen times as many rows; "
        "what forces and what targets by the score save was not measured apart. Where the weighted "
        "mean has too large an error, weigh more samples; where the cold network is off what it "
        "learned, take more steps; where that is off the reference, draw and move more clusters."
    )
    weighted, unweighed = judged(policies, options.samples, options.weighed)
    title = "LJ-13 by a ladder of temperatures"
    parts = about, headline, weighted, samples, unweighed, found, PUBLISHED["lj13"]
    write_page("particles_ladder", title, *parts)


if __name__ == "__main__":
    main()
