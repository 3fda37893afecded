"""A rare wish: one draw of the trained stochastic map a step, against best-of-N at equal reward.

    python scripts/bench/rare_reward.py [--samples 256] [--base 20000]

The reward is the log-probability of glasses, hat and beard together, which about one portrait in
two thousand has. A method's mean reward is looked up among best-of-N's, for every N by order
statistics of many samples of the base: what best-of-N pays for that reward, over what the method
paid, is the ratio. Samples are stored under outputs/rare_reward, so a run that was cut goes on
where it was; delete the folder after a change of a model.
"""

import argparse
import math
from pathlib import Path
from typing import Any

from page import shown, table, write_page
from portraits import best_of, forwards, sampled, seen
from scipy.optimize import brentq
from tensordict import TensorDict

import alignflow as af
from alignflow.metrics import mean
from alignflow.rewards import AttributeLogProbability

ATTRIBUTES = ("glasses", "hat", "beard")
FOLDER = Path("outputs/rare_reward")
BASE_STEPS = (1, 4)
TOP = 0.1  # largest N that is looked up, as a fraction of the base's samples
MAP = "avatars_posterior"
METHODS: dict[str, dict[str, Any]] = {
    "`mfm_g`, 1 draw": {"model": MAP, "method": "mfm_g", "draws": 1},
    "`mfm_g`, 4 draws": {"model": MAP, "method": "mfm_g", "draws": 4},
    "`mfm_gf`, 16 draws": {"model": MAP, "method": "mfm_gf", "draws": 16},
    "`search`, 4 draws": {"model": MAP, "method": "search", "particles": 1, "draws": 4},
    "`fmrg_j`, no draws": {"model": "avatars", "method": "fmrg_j"},
}
RUNS = [
    ("`mfm_g`, 1 draw", strength, steps) for strength in (1.0, 3.0) for steps in (4, 8, 16, 32)
] + [
    ("`mfm_g`, 4 draws", 1.0, 16),
    ("`mfm_gf`, 16 draws", 1.0, 16),
    ("`search`, 4 draws", 1.0, 8),
    ("`search`, 4 draws", 1.0, 32),
    ("`fmrg_j`, no draws", 1.0, 8),
    ("`fmrg_j`, no draws", 3.0, 8),
]


def equal(base: TensorDict, wanted: float) -> float:
    """N whose best-of-N has the wanted mean reward; infinity beyond the top."""
    reward = base["reward"]

    def short(log_n: float) -> float:
        return best_of(math.exp(log_n), reward, reward)[0] - wanted

    top = math.log(TOP * len(reward))
    if short(top) < 0:
        return math.inf
    return 1.0 if short(0.0) >= 0 else math.exp(brentq(short, 0.0, top))  # pyright: ignore[reportArgumentType]


def ratio(base: TensorDict, found: TensorDict) -> str:
    """What best-of-N of the base pays for the reward found, over what was paid."""
    wanted, top = mean(found["reward"]).value, TOP * len(base["reward"])
    n, each = equal(base, wanted), forwards(base) / forwards(found)
    return f"> {top * each:.1f}" if math.isinf(n) else f"{n * each:.1f} (N = {n:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=256, help="of each method")
    parser.add_argument("--base", type=int, default=20_000, help="samples of the base at each step")
    options = parser.parse_args()
    reward = af.Sum({name: (AttributeLogProbability(name), 1.0) for name in ATTRIBUTES}, "rare")
    models: dict[str, Any] = {name: af.load(name) for name in ("avatars", MAP)}
    bases, rows = {}, []
    for steps in BASE_STEPS:
        plain = af.steer(models["avatars"], reward, "importance", steps=steps, particles=1)
        draw = lambda n, generator, plain=plain: plain.sample(n, generator=generator)  # noqa: E731
        base = bases[steps] = sampled(FOLDER, f"base {steps}", draw, options.base)
        held = seen(models["avatars"], base, *ATTRIBUTES)
        for n in (1, 10, 100, 1000):
            found_mean, rate = best_of(n, base["reward"], base["reward"], held)
            name = f"best of {n:,}, {steps} steps each"
            rows.append(
                [name, "", "", f"{n * steps:,}", f"{found_mean:.2f}", f"{rate:.4f}", "", ""]
            )
    for name, strength, steps in RUNS:
        method = dict(METHODS[name])
        model = models[method.pop("model")]
        steerer = af.steer(model, reward, strength=strength, steps=steps, **method)
        draw = lambda n, g, steerer=steerer: steerer.sample(n, generator=g)  # noqa: E731
        found = sampled(FOLDER, f"{name}, {strength:g}, {steps}", draw, options.samples)
        rows.append(
            [name, f"{strength:g}", steps, forwards(found), shown(mean(found["reward"])),
             shown(mean(seen(model, found, *ATTRIBUTES))),
             *(ratio(base, found) for base in bases.values())]
        )  # fmt: skip
    head = ["", "strength", "steps", "forwards", "mean reward", "rate of all three (judge)"]
    head += [f"ratio to best-of-N of {steps}-step samples" for steps in BASE_STEPS]
    write_page(
        "rare_reward",
        "A rare reward: glasses and hat and beard",
        f"Reward: the sum of the three log-probabilities, in nats; the judge is another network, "
        f"which no method sees. {options.samples:,} samples of each method, {options.base:,} of "
        "the base; ± is one standard error. Forwards of the network are per sample, a gradient "
        "counted as two. The ratio is what best-of-N pays for the same mean reward over what the "
        "method paid, above 1 where the method is cheaper; N is looked up to a tenth of the "
        "base's samples.",
        table(head, rows),
    )


if __name__ == "__main__":
    main()
