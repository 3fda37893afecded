"""Digits moved from all classes alike to a mixture of some: the class histogram of each method.

    python scripts/bench/class_mixture.py [--samples 2000] [--steps 1800]

The reward is log sum_i (w_i / b_i) p(y_i | x) by the shipped classifier, b_i the base's fraction
of class i, so that the tilt has fractions w. They depend on how the base is sampled, so each method
has those of its way. Classes are counted by that classifier, and by the judge: another
network, trained on other images. The exact tilt is the base's samples, reweighted. What `tilt`
misses is mended in further rounds, each with b_i counted on what the last one made. Sampled in
bfloat16 where the processor has it. Samples and the tuned model are stored under
outputs/class_mixture, so a run that was cut goes on where it was; delete the folder after a change
of the model.

Source: the task of Meta Flow Maps (2601.14430, section 7.1.2), there on MNIST.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from page import table, write_page
from rich.progress import track
from torch import Tensor

import alignflow as af
from alignflow.checkpoint import is_saved, load_folder, save_folder
from alignflow.policies import load_judge
from alignflow.precision import autocast, fastest
from alignflow.rewards import Brightness, ClassMixture
from alignflow.rewards.classifier import load_classifier

WANTED = torch.tensor([0, 1, 0, 1, 0, 2, 0, 2, 0, 4], dtype=torch.float64) / 10
BASE = 4000
STAGES = 4
ROUNDS = 3
AGAIN = 0.5  # steps of a further round, over those of the first
BATCH = 100
APART = 10**6  # what is judged starts from other noise than what b_i is counted on
STEPS = 8  # of steering
FOLDER = Path("outputs/class_mixture")
EXACT = "exact tilt (4 jumps, reweighted)"
MFM_GF = {"posterior": {"name": "glass", "inner_steps": 2}, "draws": 8}
PARTICLES = 16
# the same velocity proposes, and weights take out what few draws and long steps leave
WEIGHED = {
    "value": "gradient_free",
    "transition": "anchored",
    "resampler": "adaptive",
    "particles": PARTICLES,
    **MFM_GF,
}


def stored(name: str, n: int, draw, batch: int = BATCH, seed: int = 0) -> dict[str, Tensor]:
    """n rows of each of the tensors of `draw(n, generator)`, in batches that are stored."""
    folder, parts = FOLDER / name.replace(" ", "_"), []
    for start in track(range(0, n, batch), name):
        size = min(batch, n - start)
        file = folder / f"{start}-{start + size}"
        if not is_saved(file):
            with torch.no_grad(), autocast(fastest()):
                drawn = draw(size, torch.Generator().manual_seed(seed + start))
            drawn = {key: value.float() for key, value in drawn.items()}
            # a particle that died has the log-weight -inf
            save_folder(file, drawn, {}, allow_nonfinite=True)
        parts.append(load_folder(file, allow_nonfinite=True)[0])
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def sampled(policy, name: str, n: int, steps: int, seed: int = 0) -> Tensor:
    def draw(n: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {"state": policy.sample(n, steps, generator=generator)}

    return stored(name, n, draw, seed=seed)["state"]


def walked(policy, transition: str) -> Tensor:
    """Samples of the base by the steps of a steerer, without its reward."""
    walk = af.steer(
        policy, Brightness(), "custom", strength=0.0, steps=STEPS, transition=transition
    )
    name = f"base {transition}"
    return stored(name, BASE, lambda n, g: {"state": walk.sample(n, generator=g)["state"]})["state"]


def steered(steerer, name: str, systems: int, batch: int, seed: int = 0) -> dict[str, Tensor]:
    """All particles of so many systems, each with its weight."""

    def draw(n: int, generator: torch.Generator) -> dict[str, Tensor]:
        particles = steerer.sample(n, generator=generator)["particles"]
        return {key: particles[key].flatten(0, 1) for key in ("state", "log_weight")}

    return stored(name, systems, draw, batch, seed)


class Counted:
    """Fractions of the classes among samples, each with a weight, as a network sees them.

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
        self.fractions = (weight * one_hot).sum(0)
        # of their distance from the true ones, what chance alone would make
        apart = (weight * (one_hot - self.fractions)).unflatten(0, (-1, together)).sum(1)
        self.noise = apart.square().sum().sqrt().item()


def tilted(policy, reward, steps: int, stages: int, name: str):
    """The policy tuned by `tilt`."""
    return af.finetune(
        policy,
        reward,
        "tilt",
        strength=1.0,
        steps=steps,
        annealing_stages=stages,
        batch_size=64,
        learning_rate=6e-4,
        pool=4096,
        refresh_every=steps,
        candidate_steps=4,
        precision=fastest(),
        folder=FOLDER / name.replace(" ", "_"),
    )


def rounds(policy, network, reward, steps: int) -> list:
    """What each round of tuning made."""
    models = [tilted(policy, reward, steps, STAGES, "round 1")]
    while len(models) < ROUNDS:
        last, name = models[-1], f"round {len(models) + 1}"
        counted = wanted_of(policy, network, sampled(last, f"counted for {name}", BASE, 4))
        models.append(tilted(last, counted, round(AGAIN * steps), 1, name))
    return models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000, help="of each method")
    parser.add_argument("--steps", type=int, default=1800, help="of tuning")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    n = options.samples
    policy, networks = af.load("digits"), (load_classifier("digits"), load_judge("digits"))

    bases = {
        "4 jumps": sampled(policy, "base", BASE, 4),
        f"{STEPS} Euler steps": walked(policy, "euler"),
        f"{STEPS} anchored steps": walked(policy, "anchored"),
    }
    jumps, euler, anchored = (wanted_of(policy, networks[0], states) for states in bases.values())
    base = bases["4 jumps"]
    with torch.no_grad():
        parts = [jumps.score(part, decode=policy.decode) for part in base.split(500)]
    models = rounds(policy, networks[0], jumps, options.steps)
    alone = af.steer(policy, euler, "mfm_gf", strength=1.0, steps=STEPS, **MFM_GF)
    weighed = af.steer(policy, anchored, "custom", strength=1.0, steps=STEPS, **WEIGHED)
    single = steered(alone, "mfm_gf", n, BATCH, APART)
    # in other batches than the base, and so on other noise
    many = steered(weighed, "mfm_gf weighed", 4 * n // PARTICLES, 4)
    found: dict[str, tuple[Any, ...]] = {
        f"base, {name}": (states,) for name, states in bases.items()
    }
    found[EXACT] = (base, torch.cat(parts))
    for k, model in enumerate(models, 1):
        for steps, shown in ((1, "1 step"), (4, "4 steps")):
            drawn = sampled(model, f"tilt {k} in {steps}", n, steps, APART)
            found[f"`tilt`, round {k}, {shown}"] = (drawn,)
    found |= {
        "`mfm_gf`": (single["state"],),
        f"`mfm_gf`, {PARTICLES} particles": (many["state"], many["log_weight"], PARTICLES),
    }

    counted = [
        {name: Counted(network, policy, *drawn) for name, drawn in found.items()}
        for network in networks
    ]
    one, other = (each["base, 4 jumps"].classes for each in counted)
    agreed = (one == other).double().mean().item()
    titles = ("Counted by the reward's classifier", "Counted by the judge")
    sections = (
        f"## {title}\n\n{histograms(each)}" for title, each in zip(titles, counted, strict=True)
    )
    about = described(n, options.steps, alone.cost.nfe, weighed.cost.nfe // PARTICLES, agreed)
    write_page("class_mixture", "A mixture of classes", about, *sections)


def described(n: int, steps: int, alone: int, weighed: int, agreed: float) -> str:
    """What the page is about; alone and weighed are forwards of a sample and of a particle."""
    return (
        f"Fractions of the ten classes among {n:,} samples (of the bases {BASE:,}). Reward "
        "log sum_i (w_i / b_i) p(y_i | x), b_i the fraction of class i among samples of the base "
        "that are drawn as the method draws, by the classifier that is the reward; strength 1. "
        f"`tilt`: {steps:,} steps of batch 64 in {STAGES} annealing stages; a further round is "
        f"{round(AGAIN * steps):,} in one, with b_i of {BASE:,} samples of the last round. "
        f"`mfm_gf`: {MFM_GF['draws']} draws by GLASS in {MFM_GF['posterior']['inner_steps']} Heun "
        f"steps, {STEPS} Euler steps, {alone:,} forwards a sample. With particles the "
        "steps are the anchored transition's, and systems are resampled and weighed by the value "
        f"that the same draws give, {weighed:,} forwards a particle, "
        f"{4 * n:,} particles. The judge is another network than the reward's, trained on other "
        f"images; the two agree on {agreed:.0%} of the base's samples."
    )


def wanted_of(policy, network, states: Tensor) -> ClassMixture:
    """The reward whose tilt has the wanted fractions, of what these are samples of."""
    # a class that none of the samples shows is rarer than one in as many
    fractions = Counted(network, policy, states).fractions.clamp_min(1 / len(states))
    return ClassMixture((WANTED / fractions).tolist())


def histograms(found: dict[str, Counted]) -> str:
    exact = found[EXACT].fractions
    rows = [["wanted", *(f"{fraction:.3f}" for fraction in WANTED), "", "", ""]]
    for name, counted in found.items():
        distances = [(counted.fractions - other).norm().item() for other in (WANTED, exact)]
        numbers = [*counted.fractions.tolist(), *distances, counted.noise]
        rows.append([name, *(f"{number:.3f}" for number in numbers)])
    return table(["", *range(10), "L2 to wanted", "L2 to the exact tilt", "noise alone"], rows)


if __name__ == "__main__":
    main()
