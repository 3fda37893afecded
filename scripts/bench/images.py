"""A shipped image model, judged: rates, Frechet distance, novelty, accuracy, and the ODE beside.

    python scripts/bench/images.py avatars [--samples 20000] [--curve 5000]
    python scripts/bench/images.py digits
    python scripts/bench/images.py glyphs

Sampled in bfloat16, as the models were trained. Samples are stored under outputs/images, so a run
that was cut goes on where it was; delete the folder after a change of the models.
"""

import argparse
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from page import DOCS, table, write_page
from rich.progress import track
from torch import Tensor

import alignflow as af
from alignflow.data import ATTRIBUTES, CHARACTERS, avatars, digits, glyphs
from alignflow.flow_map import FlowMap
from alignflow.metrics import frechet_distance, novelty
from alignflow.pictures import save_picture
from alignflow.policies import load_judge
from alignflow.precision import autocast, fastest
from alignflow.rewards import tesseract_read

BATCH = 250
STEPS = (1, 2, 4, 8)
EVALUATIONS = 64  # of the ODE that stands for the flow itself
GUIDANCE = 1.25
CURVE = (4, 8, 16, 32, 64)  # evaluations of the ODE on the way to the map's Frechet distance
FOLDER = Path("outputs/images")
SHOWN = 64
ABOUT_FACES = """\
{n:,} samples, read by the judge. An attribute's column is the total
variation of its rate to that of {real:,} real portraits, read by the same judge; standard errors
{std}. The ratio of Frechet distances in the judge's features is to that of two halves of real
portraits, which falls with their size while the model's does not, so it is given at several sizes
({halves}). Novel: fraction of 2,000 samples with no identical portrait among the {known:,} it
learned from, every pixel rounded to the nearest of their {colors:,} colors."""


def by_map(policy: FlowMap, steps: int, guidance: float = 1.0) -> Callable[..., Tensor]:
    return lambda n, condition, generator: policy.sample(
        n, steps, condition, guidance, generator=generator
    )


def by_ode(policy: FlowMap, evaluations: int) -> Callable[..., Tensor]:
    """The midpoint rule, two evaluations a step: it never asks for the velocity at time 1."""

    def sample(n, condition, generator):
        x, steps = policy.noise(n, generator), evaluations // 2
        for k in range(steps):
            half = x + policy.velocity(x, k / steps, condition) / (2 * steps)
            x = x + policy.velocity(half, (k + 0.5) / steps, condition) / steps
        return x

    return sample


@torch.no_grad()
def drawn(name: str, draw: Callable[..., Tensor], n: int, classes: int = 0) -> Tensor:
    """n samples as bytes (n, C, H, W); the same noise and conditions whatever draws them."""
    file = FOLDER / f"{name}-{n}.pt"
    if file.exists():
        return torch.load(file, weights_only=True)
    generator = torch.Generator().manual_seed(1)
    parts = []
    for start in track(range(0, n, BATCH), name):
        size = min(BATCH, n - start)
        condition = torch.arange(start, start + size) % classes if classes else None
        with autocast(fastest()):
            states = draw(size, condition, generator)
        parts.append(((states.float() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8))
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.save(torch.cat(parts), file)
    return torch.cat(parts)


@torch.no_grad()
def judged(judge, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, A) and features (n, F)."""
    found = [(judge(x), judge.features(x)) for x in (pixels.float() / 255).split(1000)]
    logits, features = (torch.cat(column) for column in zip(*found, strict=True))
    return logits, features


def palette_of(pixels: Tensor) -> Tensor:
    """The colors that occur, (P, 3)."""
    return pixels.permute(0, 2, 3, 1).reshape(-1, 3).unique(dim=0)


def palette_rounded(pixels: Tensor, palette: Tensor) -> Tensor:
    """Each pixel of (n, 3, H, W) as the nearest color of (P, 3), bytes again."""
    parts = []
    for part in pixels.split(64):
        colors = part.permute(0, 2, 3, 1)
        nearest = torch.cdist(colors.reshape(-1, 3).float(), palette.float()).argmin(1)
        parts.append(palette[nearest].reshape(colors.shape).permute(0, 3, 1, 2))
    return torch.cat(parts)


def faces(n: int, curve: int) -> list[str]:
    """What the page says of the avatars."""
    policy, judge = af.load("avatars"), load_judge("avatars")
    training, real = avatars(), avatars(2 * n, first=300_000)
    draws = {f"{steps} steps" if steps > 1 else "1 step": by_map(policy, steps) for steps in STEPS}
    samples = {name: drawn(f"avatars, {name}", draw, n) for name, draw in draws.items()}
    slow = f"ODE, {EVALUATIONS} evaluations"
    samples[slow] = drawn(f"avatars, {slow}", by_ode(policy, EVALUATIONS), n)
    logits, features = judged(judge, real.pixels)
    rates = (logits > 0).double().mean(0)
    palette = palette_of(training.pixels)
    sizes = (2000, curve, n)
    halves = {m: float(frechet_distance(features[:m], features[m : 2 * m])) for m in sizes}
    rows = []
    for name, pixels in samples.items():
        found, of_samples = judged(judge, pixels)
        gaps = ((found > 0).double().mean(0) - rates).abs()
        ratios = {
            m: f"{float(frechet_distance(of_samples[:m], features[:m])) / halves[m]:.1f}"
            for m in sizes
        }
        new = novelty(palette_rounded(pixels[:2000], palette), training.pixels)
        rows.append(
            [
                name,
                *(f"{gap:.3f}" for gap in gaps),
                *ratios.values(),
                f"{new.value:.1%}",
            ]
        )
    shown = {name: pixels[:SHOWN].float() / 255 for name, pixels in samples.items()}
    shown = {"real": real.pixels[:SHOWN].float() / 255, **shown}
    save_picture(DOCS / "avatars.png", shown, zoom=2)
    head = ["", *ATTRIBUTES, *(f"Frechet ratio, {m:,}" for m in sizes), "novel"]
    return [
        ABOUT_FACES.format(
            n=n,
            real=2 * n,
            std=" ".join(f"{(r * (1 - r) * 1.5 / n).sqrt():.4f}" for r in rates),
            halves=", ".join(f"{m:,}: {halves[m]:.4f}" for m in sizes),
            known=len(training),
            colors=len(palette),
        ),
        table(head, rows),
        f"![real, {', '.join(samples)}](avatars.png)\n\nReal, then samples from the same noise: "
        f"{', '.join(samples)}.",
        *equal_quality(policy, judge, features, curve),
    ]


def equal_quality(policy: FlowMap, judge, real: Tensor, n: int) -> list[str]:
    """The ODE's evaluations at the Frechet distance of four jumps."""

    def distance(name: str, draw) -> float:
        of_samples = judged(judge, drawn(f"avatars, {name}", draw, n))[1]
        return float(frechet_distance(of_samples, real[:n]))

    jumps = distance("4 steps", by_map(policy, 4))
    curve = {k: distance(f"ODE, {k} evaluations", by_ode(policy, k)) for k in CURVE}
    needed = f"more than {CURVE[-1]}"
    for (low, worse), (high, better) in pairwise(curve.items()):
        if worse >= jumps >= better:
            fraction = math.log(worse / jumps) / math.log(worse / better)
            evaluations = low * (high / low) ** fraction
            needed = f"{evaluations:.1f} (between the two, in logarithms)"
            break
    return [
        "## Four jumps against the ODE at equal quality",
        f"Frechet distance of {n:,} samples. The ODE (midpoint rule) reaches that of four jumps "
        f"after {needed} evaluations.",
        table(
            ["", "4 jumps", *(f"ODE, {k}" for k in CURVE)],
            [["Frechet", f"{jumps:.2f}", *(f"{value:.2f}" for value in curve.values())]],
        ),
    ]


def classes(name: str, real, n: int) -> list[str]:
    """Fraction of samples that the judge takes for the class they were asked to be."""
    policy, judge = af.load(name), load_judge(name)
    count = len(judge.labels)
    wanted = torch.arange(n) % count
    draws = {f"{steps} steps" if steps > 1 else "1 step": by_map(policy, steps) for steps in STEPS}
    draws[f"4 steps, guidance {GUIDANCE:g}"] = by_map(policy, 4, GUIDANCE)
    draws[f"ODE, {EVALUATIONS} evaluations"] = by_ode(policy, EVALUATIONS)
    rows, shown = [], {"real": real.pixels[:SHOWN].float() / 255}
    right = (judged(judge, real.pixels)[0].argmax(1) == real.labels[real.condition]).double().mean()
    read = _tesseract(real.pixels, real.labels[real.condition]) if name == "glyphs" else None
    rows.append([f"{len(real):,} real", f"{right:.1%}", *([read] if read else [])])
    for title, draw in draws.items():
        pixels = drawn(f"{name}, {title}", draw, n, count)
        right = (judged(judge, pixels)[0].argmax(1) == wanted).double().mean()
        read = _tesseract(pixels, wanted) if name == "glyphs" else None
        rows.append([title, f"{right:.1%}", *([read] if read else [])])
        shown[title] = pixels[:SHOWN].float() / 255
    save_picture(DOCS / f"{name}.png", shown, zoom=1)
    return [
        f"{n:,} samples, equally many of each class; the fraction that the judge takes for the "
        "class that was asked for" + (", and that Tesseract reads as it." if read else "."),
        table(["", "judge", *(["Tesseract"] if read else [])], rows),
        f"![real, {', '.join(draws)}]({name}.png)",
    ]


def _tesseract(pixels: Tensor, wanted: Tensor, n: int = 1080) -> str:
    """Fraction of the first n, 30 of each character, that Tesseract reads right."""
    texts = tesseract_read(pixels[:n].float() / 255)
    right = [text == CHARACTERS[k] for text, k in zip(texts, wanted[:n].tolist(), strict=True)]
    return f"{sum(right) / len(right):.1%} of {len(right):,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=("avatars", "digits", "glyphs"))
    parser.add_argument("--samples", type=int, default=20_000, help="of the avatars")
    parser.add_argument(
        "--curve", type=int, default=5_000, help="by the ODE, and for the comparison with it"
    )
    options = parser.parse_args()
    parts = {
        "avatars": lambda: faces(options.samples, options.curve),
        "digits": lambda: classes("digits", digits("judge_test"), 5_000),
        "glyphs": lambda: classes("glyphs", glyphs(3_600, first=300_000), 3_600),
    }[options.model]()
    about = "Sampled in bfloat16 with the shipped weights."
    write_page(f"images_{options.model}", f"The shipped {options.model}", about, *parts)


if __name__ == "__main__":
    main()
