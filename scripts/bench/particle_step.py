"""What clusters cost: energies, forwards, training steps and exact divergences, by system.

    python scripts/bench/particle_step.py [--batch 16] [--repeats 5]

States are noise, for what is timed does not depend on them. The least of the repeats is shown.
"""

import argparse
import timeit
from collections.abc import Callable

import torch
from page import table, write_page
from tensordict import TensorDict

from alignflow import pipeline
from alignflow.coordinates import from_relative
from alignflow.distillation import PSD, FlowMapLoss
from alignflow.likelihood import divergence
from alignflow.policies import EGNN, FlowMapPolicy
from alignflow.targets import CLUSTERS, build_cluster

STAGES = 8  # that LJ-13 takes


def least(work: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the fastest of some calls, after one that is not counted."""
    work()
    return 1000 * min(timeit.repeat(work, repeat=repeats, number=1))


def row(name: str, batch: int, repeats: int) -> list[str]:
    cluster = build_cluster(name)
    network = EGNN(cluster.particles, cluster.dimension, 64, 3)
    event = (cluster.particles - 1, cluster.dimension)
    policy = FlowMapPolicy(network, event)
    loss = FlowMapLoss(policy, PSD(), generator=torch.Generator().manual_seed(0))
    x = torch.randn(batch, *event, generator=torch.Generator().manual_seed(0))
    clusters = from_relative(x).requires_grad_()
    times = torch.full((batch,), 0.5)

    def step() -> None:
        policy.zero_grad()
        torch.stack(list(loss(TensorDict({"data": x})).values())).sum().backward()

    with torch.no_grad():
        forward = least(lambda: policy.velocity(x, 0.5), repeats)
        pushing = least(lambda: divergence(policy.velocity, x, times), 1)
    energy = least(lambda: torch.autograd.grad(cluster(clusters).sum(), clusters), repeats)
    measured = (energy, forward, least(step, repeats), pushing)
    pairs = cluster.particles * (cluster.particles - 1) // 2
    return [name, str(x[0].numel()), str(pairs), *(f"{1000 * m / batch:.0f}" for m in measured)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [row(name, options.batch, options.repeats) for name in CLUSTERS]
    head = ["", "numbers", "pairs", "energy and gradient", "forward", "training step (PSD)"]
    about = (
        f"Microseconds a cluster, at batch {options.batch}. The network is the one of the "
        "experiments (width 64, 3 layers). A training step is three quarters flow matching and one "
        "quarter PSD."
    )
    forward, step, pushing = (float(rows[-1][column]) / 1e6 for column in (4, 5, 6))
    config = pipeline.compose("experiment=lj13")
    tuning, batch = config.finetuner, config.training.batch_size
    steps = config.training.steps + tuning.steps + STAGES * tuning.recentering
    plan = (
        f"LJ-55 run as `experiment=lj13` is ({steps:,} steps of batch {batch}; in each of {STAGES} "
        "stages, as many as that takes, 8,192 candidates and 8,192 samples to learn again, in 8 "
        f"jumps) would take {steps * batch * step / 3600:.0f} h of training and "
        f"{STAGES * 2 * 8192 * 8 * forward / 3600:.1f} h of drawing, exact weights of 300 samples, "
        f"at a hundred evaluations each, {300 * 100 * pushing / 3600:.0f} h more: there the "
        "divergence takes random probes."
    )
    write_page(
        "particle_step", "What clusters cost", about, table([*head, "divergence"], rows), plan
    )


if __name__ == "__main__":
    main()
