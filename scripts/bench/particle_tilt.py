"""A cluster's flow tilted from hot to cold without cold samples: energies, distances, ESS.

    python scripts/bench/particle_tilt.py dw4 [key=value ...]
    python scripts/bench/particle_tilt.py lj13

Runs the experiment of that name in outputs/<name>, or goes on with what is there, and writes what
it found against the cold reference, which only judges. W2 of clusters is over the best rotation and
permutation of particles for each pair, as in published tables.
"""

import argparse
import shlex
from pathlib import Path
from typing import cast

from page import shown, table, write_page

from alignflow import pipeline
from alignflow.results import (
    EvaluationResult,
    FinetuneResult,
    ModelResult,
    ReferenceResult,
    TrainingResult,
    read,
)

PUBLISHED = {
    "lj13": """\
Published for LJ-13, from no samples at all, W2 of clusters / W2 of energies: PIS 1.93 ± .07 /
18.02 ± 1.12, DDS 1.99 ± .13 / 24.61 ± 8.99, iDEM 1.61 ± .01 / 30.78 ± 24.5, Adjoint Sampling
1.67 ± .01 / 2.40 ± 1.25, ASBS 1.59 ± .03 / 1.99 ± 1.01 (all as in table 2 of 2506.22565); PDNS 1.01
and Flow Sampling .97 in W2 of energies. The tilt here starts from hot samples, which those have
not."""
}


def rows(models: list[ModelResult], reference: ReferenceResult) -> list[list[str]]:
    means = {model.name: model.mean_reward for model in models}
    means["reference"] = reference.mean_reward
    found = [
        [name, shown(means[name]), *map(shown, distances.values()), "", ""]
        for name, distances in reference.distances.items()
    ]
    for name, drawn in reference.weighed.items():
        apart = map(shown, drawn.distances.values())
        weighed = f"{drawn.ess_fraction:.3f}", shown(drawn.weighed_reward)
        way = "ODE" if drawn.steps is None else f"jumps: {drawn.steps}"
        found.append([f"{name}, {way}", shown(drawn.mean_reward), *apart, *weighed])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=("dw4", "lj13"))
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes of the config")
    options = parser.parse_args()
    overrides = [f"experiment={options.system}", *options.overrides]
    config = pipeline.compose(*overrides)
    command = shlex.join(["alignflow", "run", *overrides])
    run = pipeline.run(config, Path("outputs") / options.system, command)
    pretrained = read(run / "stages/pretrain/result.json", TrainingResult)
    tuned = read(run / "stages/finetune/result.json", FinetuneResult)
    result = read(run / "stages/evaluate/result.json", EvaluationResult)
    reference = cast(ReferenceResult, result.reference)
    stages = len(list((run / "stages" / "finetune").glob("level_*")))
    about = (
        f"{config.training.steps:,} steps learn the hot samples "
        f"({pretrained.seconds / 60:.0f} min), "
        f"{config.finetuner.steps:,} tilt them at strength {config.strength:g} "
        f"({tuned.seconds / 60:.0f} min, {stages} stages; {tuned.reward_calls:,} energies and "
        f"{tuned.reward_vjps:,} gradients, and one more of each for a Langevin move, of the hot "
        "distribution). Rewards are minus energies. "
        f"{config.evaluation.samples:,} samples of each model in {config.evaluation.steps} steps; "
        "the first row is of as many others of the reference."
    )
    if config.evaluation.weighed:
        about += (
            f" Rows of an ODE or of jumps are of {config.evaluation.weighed:,} samples; their "
            "effective fraction and weighted mean are under the Boltzmann density over the "
            "model's, exactly."
        )
    names = list(reference.distances["reference"])
    head = ["", "mean reward", *(f"W2, {name}" for name in names)]
    head += ["effective fraction", "weighted mean reward"]
    parts = [about, table(head, rows(result.models, reference)), PUBLISHED.get(options.system, "")]
    title = f"{options.system.upper()}, from hot to cold"
    write_page(f"particles_{options.system}", title, *filter(None, parts))


if __name__ == "__main__":
    main()
