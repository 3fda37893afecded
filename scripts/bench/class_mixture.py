"""Digits moved from all classes alike to a mixture of some: the class histogram of each method.

    python scripts/bench/class_mixture.py [--samples 2000] [--steps 2000]

The reward is log sum_i (w_i / b_i) p(y_i | x) by the shipped classifier, b_i the base's own share
of class i, so that the tilt has shares w. Classes are counted by that classifier, and by the judge:
another network, trained on other images. The exact tilt is the base's own samples, reweighted.
Samples and the tuned model are kept under outputs/class_mixture, so a run that was cut goes on
where it was; delete the folder after a change of the model.

Source: the task of Meta Flow Maps (2601.14430), there on ImageNet.
"""

import argparse
from pathlib import Path

import torch
from page import table, write_page
from rich.progress import track
from torch import Tensor

import alignflow as af
from alignflow.checkpoint import is_saved, load_folder, save_folder
from alignflow.policies import load_judge
from alignflow.precision import fastest
from alignflow.rewards import ClassMixture
from alignflow.rewards.classifier import load_classifier

WANTED = torch.tensor([0, 1, 0, 1, 0, 2, 0, 2, 0, 4], dtype=torch.float64) / 10
BASE = 4000
BATCH = 100
KEPT = Path("outputs/class_mixture")
MFM_GF = {"posterior": {"name": "glass", "inner_steps": 2}, "draws": 8, "steps": 8}
PARTICLES = 16
# the same velocity proposes, and weights take out what few draws and long steps leave
WEIGHED = {
    "value": "gradient_free",
    "transition": "anchored",
    "resampler": "adaptive",
    "particles": PARTICLES,
    **MFM_GF,
}


def kept(name: str, n: int, draw, batch: int = BATCH) -> dict[str, Tensor]:
    """n rows of each of the tensors of `draw(n, generator)`, in batches that are kept."""
    folder, parts = KEPT / name.replace(" ", "_"), []
    for start in track(range(0, n, batch), name):
        size = min(batch, n - start)
        file = folder / f"{start}-{start + size}"
        if not is_saved(file):
            save_folder(file, draw(size, torch.Generator().manual_seed(start)), {})
        parts.append(load_folder(file)[0])
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def sampled(policy, name: str, n: int, steps: int) -> Tensor:
    return kept(name, n, lambda n, g: {"state": policy.sample(n, steps, generator=g)})["state"]


def steered(steerer, name: str, systems: int, batch: int) -> dict[str, Tensor]:
    """All particles of so many systems, each with its weight."""

    def draw(n: int, generator: torch.Generator) -> dict[str, Tensor]:
        particles = steerer.sample(n, generator=generator)["particles"]
        return {key: particles[key].flatten(0, 1) for key in ("state", "log_weight")}

    return kept(name, systems, draw, batch)


class Counted:
    """Shares of the classes among samples, each with a weight, as a network sees them."""

    @torch.no_grad()
    def __init__(self, network, policy, states: Tensor, log_weight: Tensor | None = None):
        logits = torch.cat([network(policy.decode(part)) for part in states.split(500)])
        weight = torch.full((len(states),), 1 / len(states), dtype=torch.float64)
        if log_weight is not None:
            weight = log_weight.double().softmax(0)
        self.shares = torch.zeros(10, dtype=torch.float64).index_add_(0, logits.argmax(1), weight)
        # what chance alone would make of the distance, for shares that were right
        self.noise = ((1 - self.shares.square().sum()) * weight.square().sum()).sqrt().item()


def tilted(policy, reward, steps: int):
    """The policy tuned by `tilt`."""
    return af.finetune(
        policy,
        reward,
        "tilt",
        strength=1.0,
        steps=steps,
        batch_size=64,
        learning_rate=6e-4,
        pool=4096,
        refresh_every=steps,
        candidate_steps=4,
        precision=fastest(),
        folder=KEPT / f"tilt-{steps}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000, help="of each method")
    parser.add_argument("--steps", type=int, default=2000, help="of tuning")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    n = options.samples
    policy, networks = af.load("digits"), (load_classifier("digits"), load_judge("digits"))

    base = sampled(policy, "base", BASE, 4)
    reward = ClassMixture((WANTED / Counted(networks[0], policy, base).shares).tolist())
    with torch.no_grad():
        parts = [reward.score(part, decode=policy.decode) for part in base.split(500)]
    model = tilted(policy, reward, options.steps)
    alone = af.steer(policy, reward, "mfm_gf", strength=1.0, **MFM_GF)
    weighed = af.steer(policy, reward, "custom", strength=1.0, **WEIGHED)
    many = steered(weighed, "mfm_gf weighed", n // PARTICLES, 4)
    single = steered(alone, "mfm_gf", n // 4, BATCH)
    found = {
        "base, 4 steps": (base, None),
        "exact tilt (base, reweighted)": (base, torch.cat(parts)),
        "`tilt`, 1 step": (sampled(model, "tilt 1", n, 1), None),
        "`tilt`, 4 steps": (sampled(model, "tilt 4", n, 4), None),
        "`mfm_gf`": (single["state"], None),
        f"`mfm_gf`, {PARTICLES} particles": (many["state"], many["log_weight"]),
    }

    sections = []
    for title, network in zip(("the reward's classifier", "the judge"), networks, strict=True):
        counted = {name: Counted(network, policy, *drawn) for name, drawn in found.items()}
        sections.append(f"## Counted by {title}\n\n{histograms(counted)}")
    about = (
        f"Shares of the ten classes among {n:,} samples (of the base {BASE:,}, of `mfm_gf` alone "
        f"{n // 4:,}). Reward "
        "log sum_i (w_i / b_i) p(y_i | x), b_i the base's share of class i by the classifier that "
        f"is the reward, strength 1. `tilt`: {options.steps:,} steps of batch 64. `mfm_gf`: "
        f"{MFM_GF['draws']} draws by GLASS in {MFM_GF['posterior']['inner_steps']} Heun steps, "
        f"{MFM_GF['steps']} Euler steps, {alone.cost.nfe:,} forwards a sample. With particles the "
        "steps are the anchored transition's, and systems are resampled and weighed by the mean "
        f"value of the same draws, {weighed.cost.nfe // PARTICLES:,} forwards a particle. The "
        "judge is another network than the reward's, trained on other images; the two agree on "
        f"{agreement(policy, base, networks):.0%} of the base's samples. What chance alone makes "
        "of a distance does not know of the dependence of particles of one system."
    )
    write_page("class_mixture", "A mixture of classes", about, *sections)


@torch.no_grad()
def agreement(policy, states: Tensor, networks) -> float:
    """Share of states that the networks see the same class in."""
    one, other = (
        torch.cat([network(policy.decode(part)).argmax(1) for part in states.split(500)])
        for network in networks
    )
    return (one == other).double().mean().item()


def histograms(found: dict[str, Counted]) -> str:
    exact = found["exact tilt (base, reweighted)"].shares
    rows = [["wanted", *(f"{share:.3f}" for share in WANTED), "", "", ""]]
    for name, counted in found.items():
        distances = [(counted.shares - other).norm().item() for other in (WANTED, exact)]
        numbers = [*counted.shares.tolist(), *distances, counted.noise]
        rows.append([name, *(f"{number:.3f}" for number in numbers)])
    return table(["", *range(10), "L2 to wanted", "L2 to the exact tilt", "noise alone"], rows)


if __name__ == "__main__":
    main()
