"""Molecules tuned to QED, a black box: what it gains, and what else it changes.

    python scripts/bench/molecules_qed.py [rloo] [weighted] [--samples 2000]

Needs alignflow[molecules]. Tuned models and samples are stored under outputs/molecules_qed, so that
a run that was cut goes on where it was; delete the folder after a change of the settings.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from page import DOCS, shown, table, write_page
from rich.progress import track
from string_draws import data_rows
from string_properties import MOLECULE_PROPERTIES, PAIRS, HeldOut
from torch import Tensor

import alignflow as af
from alignflow.chemistry import canonical, molecule, rdkit
from alignflow.cost import Meter, MeteredReward
from alignflow.distillation import DecodingTimes
from alignflow.metrics import Estimate, distinct, mean, odd_rings
from alignflow.precision import autocast, fastest
from alignflow.rewards import QED

FOLDER = Path("outputs/molecules_qed")
STRENGTH = 10.0
FEW = (1, 4, 8)
BATCH = 500  # samples at a time
ALIKE = 1000  # samples whose pairs are compared
DRAWN = 6  # molecules of the picture, a row
TIMES = partial(DecodingTimes, 27)
TUNED: dict[str, dict[str, Any]] = {
    # as experiment=molecules_qed
    "rloo": {
        "steps": 180,
        "batch_size": 64,
        "draws": 8,
        "kl_weight": 0.1,
        "learning_rate": 5e-4,
        "warmup": 10,
        "decay": 0.4,
        "ema_decay": 0.97,
        "log_every": 10,
    },
    "weighted": {
        "steps": 400,
        "batch_size": 64,
        "pool": 2048,
        "candidate_steps": 8,
        "refresh_every": 10**6,
        "learning_rate": 5e-4,
    },
}
ABOUT = """\
{n:,} samples of each in 1, 4 and 8 steps, at times by decoding, from the same noise; ± are standard
errors, of the gain over the base of pairs from one noise. `rloo` has the settings of
`experiment=molecules_qed`. The strength is {strength:g}; the base's own 8-step samples, reweighted
by it, have a mean QED of {tilt}. Odd rings have neither 5 nor 6 atoms. Distances are Wasserstein's
of a property to {n:,} held-out molecules, over the distance of two sets of so many held-out ones.
Alike is the mean Tanimoto similarity (ECFP4) of the pairs of {alike:,} samples."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"of {', '.join(TUNED)}")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if unknown := set(options.methods) - set(TUNED):
        parser.error(f"no method {', '.join(sorted(unknown))}; there are {', '.join(TUNED)}")
    torch.set_num_threads(options.threads)
    n, held_out = options.samples, af.data.molecules("test")
    if 2 * PAIRS * n > len(held_out):
        parser.error(f"--samples must be at most {len(held_out) // (2 * PAIRS)}, got {n}")
    base, names = af.load("molecules"), options.methods or list(TUNED)
    costs = {name: tuned(base, name) for name in names}
    models = {"base": base} | {name: af.load(FOLDER / name) for name in names}
    texts = {
        (name, steps): drawn(model, name, steps, n)
        for steps in FEW
        for name, model in models.items()
    }
    generator = torch.Generator().manual_seed(0)
    beyond = held_out.select(slice(n, None))  # the first n are what all are compared with
    data = base.decode(beyond.vocabulary.one_hot(data_rows(beyond, n, generator)))
    others = HeldOut(held_out.select(slice(2 * PAIRS * n)).strings, n)
    picture(texts, models)
    write_page(
        "molecules_qed",
        "Molecules tuned to drug-likeness",
        ABOUT.format(
            n=n, strength=STRENGTH, tilt=shown(tilted(texts["base", 8])), alike=min(ALIKE, n)
        ),
        f"## Drug-likeness\n\n{gains(texts, data)}",
        f"## Other properties\n\n{properties(texts, data, others)}",
        f"## Cost\n\n{cost_table(costs)}",
        "## Drawn\n\nThe first molecules of the base in 4 steps, and below each what the tuned "
        f"model ({next(iter(costs))}) makes of its noise; with their QED.\n\n"
        "![Molecules before and after](molecules_qed.png)",
    )


def tuned(base: Any, name: Any) -> dict[str, Any]:
    """Tune a model and store it, with what that took: seconds of the processor, and scores."""
    folder, about = FOLDER / name, FOLDER / f"{name}.pt"
    if not about.exists():
        meter, start = Meter(), time.process_time()
        tilt = af.Tilt(MeteredReward(QED("worst"), meter), STRENGTH)
        precision = fastest()

        def told(step: int, steps: int, metrics: dict[str, float]) -> None:
            if step % 10 == 0:
                print(f"{name}: step {step} of {steps}", metrics, flush=True)

        model = af.finetune(
            base, tilt, name, generator=0, times=TIMES(boundary=0.3), precision=precision,
            progress=told, **TUNED[name],
        )  # fmt: skip
        seconds = time.process_time() - start
        model.save(folder)
        torch.save({"seconds": seconds, "scores": meter.total.reward_calls}, about)
    return torch.load(about)


def drawn(model: Any, name: str, steps: int, n: int) -> list[str]:
    """n molecules in so many steps, drawn or stored before; noise is that of every model."""
    path = FOLDER / f"{name}-{steps}-{n}.txt"
    if not path.exists():
        decoded = torch.arange(1, steps, dtype=torch.float64) / steps
        grid = [0.0, *TIMES().time(decoded).tolist(), 1.0]
        found: list[str] = []
        for start in track(range(0, n, BATCH), path.stem):
            rows, seed = min(BATCH, n - start), torch.Generator().manual_seed(start)
            with torch.no_grad(), autocast(fastest()):
                found += model.decode(model.sample(rows, grid=grid, generator=seed))
        path.write_text("\n".join(found))
    return path.read_text().split("\n")


@cache
def _qed(texts: tuple[str, ...]) -> Tensor:
    return QED("worst")(list(texts)).double()


def qed(texts: Sequence[str]) -> Tensor:
    """(N,), of what is no molecule the least of all."""
    return _qed(tuple(texts))


def tilted(texts: Sequence[str]) -> Estimate:
    """The mean QED of samples reweighted at the strength."""
    values = qed(texts)
    weights = (STRENGTH * values).softmax(0)
    value = weights @ values
    error = (weights * (values - value)).square().sum().sqrt()
    return Estimate(value.item(), error.item())


def gains(texts: dict[tuple[str, int], list[str]], data: list[str]) -> str:
    """A table of QED, of the gain, of odd rings and of how many and how alike samples are."""
    rows = [["data", "", shown(mean(qed(data))), "", *diversity(data)]]
    for (name, steps), found in texts.items():
        before = texts["base", steps]
        gain = "" if name == "base" else shown(mean(qed(found) - qed(before)))
        row = [name, str(steps), shown(mean(qed(found))), gain, *diversity(found)]
        rows.append(row)
    return table(["", "steps", "QED", "gain", "odd rings", "distinct", "alike"], rows)


def diversity(texts: list[str]) -> list[str]:
    """Odd rings, distinct molecules, and the mean similarity of pairs."""
    from rdkit import DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    make = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048).GetFingerprint
    parsed = (molecule(text) for text in texts[:ALIKE])
    prints = [make(each) for each in parsed if each is not None]
    pairs = [
        value
        for k in range(1, len(prints))
        for value in DataStructs.BulkTanimotoSimilarity(prints[k], prints[:k])
    ]
    alike = sum(pairs) / len(pairs)
    return [shown(odd_rings(texts)), f"{distinct(canonical(texts)):,}", f"{alike:.3f}"]


def properties(texts: dict[tuple[str, int], list[str]], data: list[str], others: HeldOut) -> str:
    """A table of means and distances."""
    rows = []
    for key, found in {("data", ""): data, **texts}.items():
        line = [str(part) for part in key]
        for value, distance in others.distances([text for text in found if text]).values():
            line += [f"{value}", f"{distance:.1f}"]
        rows.append(line)
    columns = [c for label in MOLECULE_PROPERTIES for c in (label, f"distance of {label}")]
    return table(["", "steps", *columns], rows)


def cost_table(costs: dict[str, dict[str, Any]]) -> str:
    """A table of what each tuning took."""
    rows = [
        [
            name,
            str(TUNED[name]["steps"]),
            f"{each['scores']:,}",
            f"{each['seconds'] / 60:.1f}",
        ]
        for name, each in costs.items()
    ]
    return table(["", "steps", "scores", "minutes of a core"], rows)


def picture(texts: dict[tuple[str, int], list[str]], models: dict[str, Any]) -> None:
    """The first molecules of the base above those of the first tuned model, from one noise."""
    rdkit()
    from rdkit.Chem import Draw

    draw: Callable[..., Any] = Draw.MolsToGridImage
    found = [text for name in list(models)[:2] for text in texts[name, 4][:DRAWN]]
    shown_below = [f"{value:.2f}" for value in qed(found).tolist()]
    parsed = [molecule(text) for text in found]
    image = draw(
        parsed, molsPerRow=DRAWN, subImgSize=(200, 160), legends=shown_below, returnPNG=False
    )
    image.save(DOCS / "molecules_qed.png")


if __name__ == "__main__":
    main()
