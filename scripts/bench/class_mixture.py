"""Digits moved from all classes alike to a mixture of some: the class histogram of each method.

    python scripts/bench/class_mixture.py [--samples 1000] [--steps 800]

The reward is log sum_i w_i p(y_i | x) by the shipped classifier; classes are counted by the judge,
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

WEIGHTS = (0, 1, 0, 1, 0, 2, 0, 2, 0, 4)
STRENGTH = 1.0
BATCH = 100
KEPT = Path("outputs/class_mixture")
GLASS = {"name": "glass", "inner_steps": 2}
MFM_GF = {"method": "mfm_gf", "posterior": GLASS, "draws": 8, "steps": 8}


def kept(name: str, n: int, draw) -> Tensor:
    """n states of `draw(n, generator)`, in batches that are kept."""
    folder, parts = KEPT / name.replace(" ", "_"), []
    for start in track(range(0, n, BATCH), name):
        size = min(BATCH, n - start)
        batch = folder / f"{start}-{start + size}"
        if not is_saved(batch):
            save_folder(batch, {"state": draw(size, generator(start))}, {})
        parts.append(load_folder(batch)[0]["state"])
    return torch.cat(parts)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Counted:
    """Classes of samples as the judge sees them, each sample with a weight."""

    def __init__(self, policy, states: Tensor, log_weight: Tensor | None = None):
        judge = load_judge("digits")
        with torch.no_grad():
            logits = torch.cat([judge(policy.decode(part)) for part in states.split(500)])
        weight = torch.full((len(states),), 1 / len(states), dtype=torch.float64)
        if log_weight is not None:
            weight = log_weight.double().softmax(0)
        self.shares = torch.zeros(10, dtype=torch.float64).index_add_(0, logits.argmax(1), weight)
        # what chance alone would make of the distance, for shares that were right
        self.noise = ((1 - self.shares.square().sum()) * weight.square().sum()).sqrt().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=800, help="of tuning")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    n = options.samples
    policy, reward = af.load("digits"), ClassMixture(list(WEIGHTS))

    base = kept("base", 4 * n, lambda n, g: policy.sample(n, 4, generator=g))
    rewards = torch.cat([reward.score(part, decode=policy.decode) for part in base.split(500)])
    tuned = af.finetune(
        policy,
        reward,
        "tilt",
        STRENGTH,
        steps=options.steps,
        batch_size=64,
        levels=2,
        pool=4096,
        refresh_every=options.steps,
        candidate_steps=4,
        precision=fastest(),
        folder=KEPT / f"tilt-{options.steps}",
    )
    steerer = af.steer(policy, reward, strength=STRENGTH, **MFM_GF)
    found = {
        "base, 4 steps": Counted(policy, base),
        "exact tilt (base, reweighted)": Counted(policy, base, STRENGTH * rewards.detach()),
    }
    for steps in (1, 4):
        drawn = kept(f"tilt {steps}", n, lambda n, g, k=steps: tuned.sample(n, k, generator=g))
        found[f"`tilt`, {steps} step{'s' * (steps > 1)}"] = Counted(policy, drawn)
    steered = kept("mfm_gf", n, lambda n, g: steerer.sample(n, generator=g)["state"])
    found["`mfm_gf` by GLASS"] = Counted(policy, steered)

    wanted = torch.tensor(WEIGHTS, dtype=torch.float64) / sum(WEIGHTS)
    exact = found["exact tilt (base, reweighted)"].shares
    rows = [["wanted", *(f"{share:.3f}" for share in wanted), "", "", ""]]
    for name, counted in found.items():
        distances = [(counted.shares - other).norm().item() for other in (wanted, exact)]
        rows.append(
            [name, *(f"{share:.3f}" for share in counted.shares), *(f"{d:.3f}" for d in distances),
             f"{counted.noise:.3f}"]
        )  # fmt: skip
    head = ["", *range(10), "L2 to wanted", "L2 to the exact tilt", "noise alone"]
    about = (
        f"Shares of the ten classes among {n:,} samples (of the base {4 * n:,}), counted by the "
        f"judge. Reward log sum_i w_i p(y_i | x), strength {STRENGTH:g}. `tilt`: {options.steps:,} "
        f"steps of batch 64 in two levels; `mfm_gf`: {MFM_GF['draws']} draws by GLASS in "
        f"{GLASS['inner_steps']} Heun steps, {MFM_GF['steps']} steps, {steerer.cost.nfe:,} "
        "forwards a sample."
    )
    write_page("class_mixture", "A mixture of classes", about, table(head, rows))


if __name__ == "__main__":
    main()
