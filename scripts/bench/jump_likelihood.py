"""Weights of a cluster's flow by the Jacobians of its jumps, beside those of its ODE.

    python scripts/bench/jump_likelihood.py [--steps 1500] [--samples 500]

Four particles in a double well between each two, hot, learned from samples with and without the
loss of invertibility. Weights are the Boltzmann density over the model's.
"""

import argparse
import time
import warnings

import torch
from page import shown, table, write_page

import alignflow as af
from alignflow import pipeline
from alignflow.jump_likelihood import sample_with_jump_density
from alignflow.likelihood import sample_with_density
from alignflow.metrics import effective_sample_size, mean, reweighted_mean
from alignflow.targets import boltzmann

JUMPS = (2, 4, 8, 16)
TOLERANCE = 1e-3  # of the ODE, as runs weigh by it


def rows(name: str, policy, target, samples: int) -> list[list[str]]:
    found = []
    for steps in (*JUMPS, None):
        began = time.perf_counter()
        with warnings.catch_warnings(record=True) as folds:
            warnings.simplefilter("always")
            if steps is None:
                x, density = sample_with_density(policy, samples, seeded(1), tolerance=TOLERANCE)
            else:
                x, density = sample_with_jump_density(policy, samples, seeded(1), steps=steps)
        seconds = time.perf_counter() - began
        log_density = target.log_density(x)
        log_weight = log_density - density.double()
        energy = -log_density * target.temperature
        found.append(
            [
                f"{name}, {'ODE' if steps is None else f'jumps: {steps}'}",
                f"{1000 * seconds / samples:.1f}",
                f"{effective_sample_size(log_weight).item() / samples:.3f}",
                shown(mean(energy)),
                shown(reweighted_mean(energy, log_weight)),
                str(len(folds)) if steps else "-",
            ]
        )
    return found


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--samples", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    target, body = boltzmann("dw4", "hot"), []
    module = pipeline.compose("experiment=dw4").policy.module
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        network = af.policies.EGNN(4, 2, module.width, module.depth, module.scale)
        policy = af.pretrain(
            af.FlowMapPolicy(network, (3, 2), decode="particles"),
            target,
            steps=options.steps,
            batch_size=64,
            generator=0,
            learning_rate=2e-3,
            decay=0.3,
            ema_decay=0.99,
            invertibility=weight,
        ).eval()
        body += rows(f"invertibility {weight:g}", policy, target, options.samples)
    exact = mean(-target.log_density(target.samples) * target.temperature)
    about = (
        f"DW-4 at temperature {target.temperature:g}, whose mean energy is {shown(exact)} by the "
        f"reference's samples; {options.steps:,} steps of batch 64 (PSD), {options.samples:,} "
        "samples a row. Folded: jumps with determinants of both signs."
    )
    head = ["", "ms a sample", "effective fraction", "mean energy", "weighted mean", "folded"]
    write_page("jump_likelihood", "Weights by the Jacobians of jumps", about, table(head, body))


if __name__ == "__main__":
    main()
