"""The papers' checkerboard: four losses at 1 to 16 steps, beside the published table.

    python scripts/bench/checkerboard.py [--steps 6000]

The published numbers are those of "How to build a consistency model" (2505.18825, table 1), read
from a 50 x 50 histogram whose cells take the density at their center. On a board of 4 x 4 squares
such a cell may straddle two squares, so that perfect samples score 0.065 nats and not 0; a
histogram of 48 x 48 cells has no such cell. Both readings are given, each with the score of perfect
samples. A run that was cut goes on where it was: trainings are stored under outputs/checkerboard.
"""

import argparse
import json
from pathlib import Path

import torch
from page import table, write_page

import alignflow as af
from alignflow.metrics import histogram_kl
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.targets import Checkerboard

SAMPLES = 64_000
STEPS = (1, 2, 4, 8, 16)
LOSSES = {"lsd": "LSD", "esd": "ESD", "psd_midpoint": "PSD-M", "psd": "PSD-U"}
PUBLISHED = {
    "lsd": (0.086, 0.077, 0.071, 0.070, 0.071),
    "esd": (0.098, 0.092, 0.083, 0.082, 0.075),
    "psd_midpoint": (0.146, 0.089, 0.081, 0.072, 0.069),
    "psd": (0.111, 0.107, 0.075, 0.073, 0.068),
}
BOARD = Checkerboard()
READINGS = {
    "50 x 50, density at the center (as published)": BOARD.center_mass(50),
    "48 x 48, exact mass": BOARD.bin_mass(48),
}


def train(loss: str, steps: int, batch: int, folder: Path) -> tuple[FlowMapPolicy, float]:
    """The map, and the minutes that it took."""
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(2, width=256, depth=4, scale=2.3), (2,))
    policy = af.pretrain(
        policy,
        BOARD,
        loss,
        steps=steps,
        batch_size=batch,
        diagonal_fraction=0.75,
        decay=0.5,
        folder=folder / loss,
    )
    lines = (folder / loss / "metrics.jsonl").read_text().splitlines()
    seconds = [json.loads(line).get("seconds_per_step", 0.0) for line in lines]
    return policy, steps * sum(seconds) / len(seconds) / 60


def divergences(samples: torch.Tensor) -> list[str]:
    return [f"{histogram_kl(samples, mass, BOARD.extent).value:.3f}" for mass in READINGS.values()]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000, help="of training, of each loss")
    parser.add_argument("--batch", type=int, default=4096)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    floors = divergences(BOARD.sample(SAMPLES, generator=generator))
    found, minutes = {}, {}
    for loss in LOSSES:
        with torch.enable_grad():
            policy, minutes[loss] = train(
                loss, arguments.steps, arguments.batch, Path("outputs/checkerboard")
            )
        for steps in STEPS:
            generator.manual_seed(1)
            found[loss, steps] = divergences(policy.sample(SAMPLES, steps, generator=generator))
    parts = []
    for reading, (title, floor) in enumerate(zip(READINGS, floors, strict=True)):
        rows = []
        for loss, name in LOSSES.items():
            rows.append([name, *(found[loss, steps][reading] for steps in STEPS)])
            if reading == 0:
                rows.append([f"{name}, published", *PUBLISHED[loss]])
        rows.append(["perfect samples", *[floor] * len(STEPS)])
        parts += [f"## {title}", table(["KL, nats", *STEPS], rows)]
    budget = ", ".join(f"{LOSSES[loss]} {spent:.1f}" for loss, spent in minutes.items())
    write_page(
        "checkerboard",
        "The checkerboard, four losses",
        f"KL(board || histogram) of {SAMPLES:,} samples in nats, cells without a sample counted as "
        f"half a sample, by steps. MLP 256 x 4, {arguments.steps:,} steps of batch "
        f"{arguments.batch:,}, average of weights 0.999; the last weights, none picked; "
        "ESD with the teacher's velocity stopped and not the whole advection, which diverged. The "
        "published rows took MLP 512 x 4, 150,000 steps of batch 100,000, and for each column the "
        "best of all checkpoints.",
        f"Minutes of training: {budget}.",
        *parts,
    )


if __name__ == "__main__":
    main()
