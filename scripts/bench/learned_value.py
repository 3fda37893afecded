"""A learned value against the closed form: calibration, gradient, and what is sampled by it.

    python scripts/bench/learned_value.py [--steps 3000] [--samples 8192]

On the ring and on the mixture of 8 dimensions, whose values are closed forms, and as the critic of
grpo. Trained values are
stored under outputs/learned_value, so a run that was cut goes on where it was.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from critic import critic_section
from page import table, write_page
from torch import Tensor

import alignflow as af
from alignflow.checkpoint import digest
from alignflow.metrics import sliced_wasserstein
from alignflow.policies import MLP
from alignflow.resampling import systematic
from alignflow.steering import BaseSteerer, Steerer
from alignflow.targets import GaussianMixture
from alignflow.values import ValueFunction

FOLDER = Path("outputs/learned_value")
DRAWS, SEEDS = 2048, 3
TIMES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9)
BATCH = 256
ROWS: dict[str, dict[str, Any]] = {
    "guidance, 8 steps": {"method": "value_guidance", "steps": 8, "transition": "euler"},
    "guidance, 32 steps": {"method": "value_guidance", "steps": 32, "transition": "euler"},
    "twisted_smc, 16 steps": {"method": "twisted_smc", "steps": 16, "particles": DRAWS},
}


class ExactValue(ValueFunction):
    """The value of a target in closed form."""

    def __init__(self, target: GaussianMixture, reward: af.Reward, most: float):
        super().__init__(reward.name, digest(target), tuple(target.event_shape), (0.0, most))
        self.target, self.scored = target, reward

    def forward(self, x: Tensor, t: Tensor, strength: Tensor, condition: Any = None) -> Tensor:
        return self.target.value(x, t, self.scored, strength[0].item())


def ring() -> tuple[GaussianMixture, af.Reward, list[float]]:
    return af.targets.ring(), af.targets.ring_reward(), [1.0, 3.0]


def mixture() -> tuple[GaussianMixture, af.Reward, list[float]]:
    target = af.targets.mixture(dimension=8)
    return target, af.targets.mixture_quadratic_reward(target), [0.5, 2.0]


CASES = {"ring": ring, "mixture of 8 dimensions": mixture}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distance(samples: Tensor, exact: Tensor) -> float:
    return float(sliced_wasserstein(samples, exact, generator=seeded(0)))


def sampled(steerer: BaseSteerer, seed: int) -> Tensor:
    """DRAWS samples: of as many systems, or of one with as many particles."""
    many = isinstance(steerer, Steerer) and steerer.nodes.particles == DRAWS
    generator = seeded(seed)
    out = steerer.sample(1 if many else DRAWS, generator=generator)
    if not many:
        return out["state"]
    rows = systematic(out["particles", "log_weight"], DRAWS, generator)[0]
    return out["particles", "state"][0, rows]


def floors(case: tuple, strength: float, value: ValueFunction) -> list[str]:
    """Sliced W2 to the tilt over that of exact draws, a mean over seeds, by row."""
    target, reward, _ = case
    tilted = target.tilted(reward, strength)
    exact = [tilted.sample(DRAWS, generator=seeded(100 + k)) for k in range(2 * SEEDS)]
    floor = sum(distance(*exact[2 * k : 2 * k + 2]) for k in range(SEEDS)) / SEEDS
    found = []
    for options in ROWS.values():
        steerer = af.steer(target, reward, strength=strength, value=value, **options)
        ratios = [distance(sampled(steerer, k), exact[k]) / floor for k in range(SEEDS)]
        ratio = torch.tensor(ratios)
        found.append(f"{ratio.mean():.2f} ± {ratio.std() / SEEDS**0.5:.2f}")
    return found


def gradient_errors(case: tuple, strength: float, value: ValueFunction) -> list[str]:
    """Root mean square error of c_t grad V at states of the tilt's path, over its own size."""
    target, reward, _ = case
    x1 = target.tilted(reward, strength).sample(1000, generator=seeded(7))
    found = []
    for time in TIMES:
        x = (time * x1 + (1 - time) * target.noise(1000, seeded(8))).requires_grad_()
        t, of = x.new_full((1000,), time), x.new_full((1000,), strength)
        (gradient,) = torch.autograd.grad(value(x, t, of).sum(), x)
        exact = target.value_gradient(x.detach(), time, reward, strength)
        error, size = (each.square().sum(1).mean().sqrt() for each in (gradient - exact, exact))
        found.append(f"{error / size:.2f}")
    return found


def section(name: str, steps: int, samples: int) -> str:
    case = target, reward, strengths = CASES[name]()
    torch.manual_seed(0)
    network = MLP(target.event_shape[0], width=128, depth=3)
    most = max(strengths)
    value = af.learn_value(
        target, reward, (0.0, most), steps, BATCH, seeded(0), network=network, samples=samples,
        folder=FOLDER / name.replace(" ", "_"),
    )  # fmt: skip
    rows = value.facts["calibration"]
    card = [
        [f"{row['time']:g}", f"{row['ratio']:.2f} ± {row['ratio_error']:.2f}",
         *("" if row[key] is None else f"{row[key]:.2f}"
           for key in ("correlation", "explained_variance"))]
        for row in rows if row["strength"] == most
    ]  # fmt: skip
    found, errors = [], []
    for strength in strengths:
        for kind, each in (("exact", ExactValue(target, reward, most)), ("learned", value)):
            found.append([f"{strength:g}", kind, *floors(case, strength, each)])
        errors.append([f"{strength:g}", *gradient_errors(case, strength, value)])
    return "\n\n".join(
        [
            f"## {name[0].upper()}{name[1:]}",
            "Distance to the tilt over the sampling floor:",
            table(["strength", "value", *ROWS], found),
            "Error of the gradient of V over its size, by time:",
            table(["strength", *(f"{time:g}" for time in TIMES)], errors),
            f"Calibration on held-out samples, strength {most:g}:",
            table(["t", "mean of e^(strength r - V)", "correlation", "explained variance"], card),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000, help="of training")
    parser.add_argument("--samples", type=int, default=8192, help="that are scored")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    about = (
        f"`af.learn_value` from {options.samples:,} scored samples, {options.steps:,} steps in "
        f"batches of {BATCH} of an MLP 3 x 128, for all strengths at once; then {DRAWS:,} samples, "
        f"{SEEDS} seeds, ± one standard error. A step of guidance is one forward of the policy, "
        "and one of the value with its gradient (Euler steps). The exact value beside it says what "
        "the steps themselves cost. One system of `twisted_smc` has as many particles as there are "
        "samples."
    )
    sections = [section(name, options.steps, options.samples) for name in CASES]
    sections.append(critic_section(options.steps, options.samples, FOLDER))
    write_page("learned_value", "A learned value and the exact one", about, *sections)


if __name__ == "__main__":
    main()
