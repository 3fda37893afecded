"""One tuning for every strength beside a tuning at each.

    python scripts/bench/every_strength.py [--steps 500] [--base-steps 2000]

On the ring and on the mixture of 8 dimensions, whose tilts are known: `strength=(0, 4)` in as many
steps as one of the tunings at 1, 2 and 4, each judged by its samples in four jumps.
"""

import argparse

import torch
from page import table, write_page
from torch import Tensor

import alignflow as af
from alignflow.metrics import sliced_wasserstein
from alignflow.policies import MLP
from alignflow.targets import GaussianMixture

DRAWS, SEEDS, JUMPS, BATCH, RATE = 4096, 3, 4, 256, 1e-3
STRENGTHS = (1.0, 2.0, 4.0)
METHODS = ("weighted", "tilt")


def ring() -> tuple[GaussianMixture, af.Reward]:
    return af.targets.ring(), af.targets.ring_reward()


def mixture() -> tuple[GaussianMixture, af.Reward]:
    target = af.targets.mixture(dimension=8)
    return target, af.targets.mixture_quadratic_reward(target)


CASES = {"ring": ring, "mixture of 8 dimensions": mixture}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distance(samples: Tensor, exact: Tensor) -> float:
    return float(sliced_wasserstein(samples, exact, generator=seeded(0)))


def judged(policy: af.FlowMap, tilted, reward: af.Reward) -> tuple[str, str]:
    """Sliced W2 to the tilt over that of exact draws, and the mean reward less the exact one."""
    exact = [tilted.sample(DRAWS, generator=seeded(100 + k)) for k in range(2 * SEEDS)]
    floor = sum(distance(*exact[2 * k : 2 * k + 2]) for k in range(SEEDS)) / SEEDS
    drawn = [policy.sample(DRAWS, JUMPS, generator=seeded(k)) for k in range(SEEDS)]
    ratio = torch.tensor([distance(drawn[k], exact[k]) / floor for k in range(SEEDS)])
    gain = reward.score(torch.cat(drawn)).mean() - reward.score(torch.cat(exact)).mean()
    return f"{ratio.mean():.2f} ± {ratio.std() / SEEDS**0.5:.2f}", f"{gain:+.3f}"


def section(name: str, steps: int, base_steps: int) -> str:
    target, reward = CASES[name]()
    torch.manual_seed(0)
    dimension = target.event_shape[0]
    base = af.FlowMapPolicy(MLP(dimension, width=128, depth=3), (dimension,))
    train = {"batch_size": BATCH, "learning_rate": RATE}
    base = af.pretrain(base, target, steps=base_steps, generator=seeded(0), **train)
    tilts = {strength: target.tilted(reward, strength) for strength in STRENGTHS}
    found = [["the base", "0", *(judged(base, tilt, reward)[0] for tilt in tilts.values())]]
    gains = []
    for method in METHODS:
        tuned = af.finetune(
            base, reward, method, (0.0, 4.0), steps=steps, generator=seeded(0), **train
        )
        ours, each = [], []
        for strength, tilt in tilts.items():
            ours.append(judged(tuned.at_strength(strength), tilt, reward))
        for strength, tilt in tilts.items():
            one = af.finetune(
                base, reward, method, strength, steps=steps, generator=seeded(0), **train
            )
            each.append(judged(one, tilt, reward))
        for label, scores, number in (
            ("all strengths", ours, 1),
            ("each strength", each, len(STRENGTHS)),
        ):
            label = f"{method}, {label}"
            found.append([label, str(number), *(score[0] for score in scores)])
            gains.append([label, *(score[1] for score in scores)])
            print(name, found[-1], gains[-1], flush=True)
    head = [f"strength {strength:g}" for strength in STRENGTHS]
    return "\n\n".join(
        [
            f"## {name[0].upper()}{name[1:]}",
            "Distance to the tilt over the sampling floor:",
            table(["tuning", "tunings", *head], found),
            "Mean reward less that of the exact tilt:",
            table(["tuning", *head], gains),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500, help="of a tuning")
    parser.add_argument("--base-steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    about = (
        f"`strength=(0.0, 4.0)` in one tuning, beside a tuning at each of the strengths, of the "
        f"same length: {options.steps:,} steps of {BATCH} rows of an MLP 3 x 128 that learned the "
        f"target in {options.base_steps:,}. {DRAWS:,} samples in {JUMPS} jumps, {SEEDS} seeds of "
        "sampling, ± one standard error of them, one of training. At strength 0 the one tuning is "
        "the base exactly."
    )
    sections = [section(name, options.steps, options.base_steps) for name in CASES]
    write_page("every_strength", "One tuning for every strength", about, *sections)


if __name__ == "__main__":
    main()
