"""Digits moved from all classes alike to a mixture of some: the class histogram of each method.

    python scripts/bench/class_mixture.py [--samples 2000] [--steps 1800]

The reward is log sum_i (w_i / b_i) p(y_i | x) by the shipped classifier, b_i the base's own share
of class i, so that the tilt has shares w. Classes are counted by that classifier, and by the judge:
another network, trained on other images. The exact tilt is the base's own samples, reweighted.
Samples and the tuned model are kept under outputs/class_mixture, so a run that was cut goes on
where it was; delete the folder after a change of the model.

Source: the task of Meta Flow Maps (2601.14430, section 7.1.2), there on MNIST.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
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
LEVELS = 4
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
    """Shares of the classes among samples, each with a weight, as a network sees them.

    Args:
        network: A classifier of images.
        policy: Decodes states.
        states: (N, *E).
        log_weight: (N,); even weights without.
        together: How many in a row are of one system, and not independent.
    """

    @torch.no_grad()
    def __init__(self, network, policy, states: Tensor, log_weight=None, together: int = 1):
        logits = torch.cat([network(policy.decode(part)) for part in states.split(500)])
        self.classes = logits.argmax(1)
        log_weight = torch.zeros(len(states)) if log_weight is None else log_weight
        weight = log_weight.double().softmax(0)[:, None]
        one_hot = F.one_hot(self.classes, 10).double()
        self.shares = (weight * one_hot).sum(0)
        # of their distance from the true ones, what chance alone would make
        apart = (weight * (one_hot - self.shares)).unflatten(0, (-1, together)).sum(1)
        self.noise = apart.square().sum().sqrt().item()


def tilted(policy, reward, steps: int):
    """The policy tuned by `tilt`."""
    return af.finetune(
        policy,
        reward,
        "tilt",
        strength=1.0,
        steps=steps,
        levels=LEVELS,
        batch_size=64,
        learning_rate=6e-4,
        pool=4096,
        refresh_every=steps,
        candidate_steps=4,
        precision=fastest(),
        folder=KEPT / f"tilt-{LEVELS}x{steps}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000, help="of each method")
    parser.add_argument("--steps", type=int, default=1800, help="of tuning")
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
        "base, 4 steps": (base,),
        "exact tilt (base, reweighted)": (base, torch.cat(parts)),
        "`tilt`, 1 step": (sampled(model, "tilt 1", n, 1),),
        "`tilt`, 4 steps": (sampled(model, "tilt 4", n, 4),),
        "`mfm_gf`": (single["state"],),
        f"`mfm_gf`, {PARTICLES} particles": (many["state"], many["log_weight"], PARTICLES),
    }

    counted = [
        {name: Counted(network, policy, *drawn) for name, drawn in found.items()}
        for network in networks
    ]
    one, other = (each["base, 4 steps"].classes for each in counted)
    about = (
        f"Shares of the ten classes among {n:,} samples (of the base {BASE:,}, of `mfm_gf` alone "
        f"{n // 4:,}). Reward log sum_i (w_i / b_i) p(y_i | x), b_i the base's share of class i by "
        f"the classifier that is the reward, strength 1. `tilt`: {options.steps:,} steps of batch "
        f"64 in {LEVELS} levels. `mfm_gf`: {MFM_GF['draws']} draws by GLASS in "
        f"{MFM_GF['posterior']['inner_steps']} Heun steps, {MFM_GF['steps']} Euler steps, "
        f"{alone.cost.nfe:,} forwards a sample. With particles the steps are the anchored "
        "transition's, and systems are resampled and weighed by the value that the same draws "
        f"give, {weighed.cost.nfe // PARTICLES:,} forwards a particle. The judge is another "
        "network than the reward's, trained on other images; the two agree on "
        f"{(one == other).double().mean():.0%} of the base's samples."
    )
    titles = ("Counted by the reward's classifier", "Counted by the judge")
    sections = (
        f"## {title}\n\n{histograms(each)}" for title, each in zip(titles, counted, strict=True)
    )
    write_page("class_mixture", "A mixture of classes", about, *sections)


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
