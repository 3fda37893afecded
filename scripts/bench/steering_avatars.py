"""Steered avatars: the rate of glasses by each method against the exact tilt, at each strength.

    python scripts/bench/steering_avatars.py [--samples 512] [--base 20000]

The exact tilt's numbers come from many samples of the base, weighted by e^{lambda r}. The same
samples serve the methods that only choose among them: `importance` in groups of 8, and best-of-N at
equal cost by order statistics. N is what a method's cost buys, a gradient through the network
counted as two forwards. Sampled in bfloat16 where the processor has it. Samples are stored under
outputs/steering_avatars, so a run that was cut goes on where it was; delete the folder after a
change of the model.
"""

import argparse
from pathlib import Path
from typing import cast

from page import shown, table, write_page
from portraits import best_of, forwards, sampled, seen
from tensordict import TensorDict
from torch import Tensor

import alignflow as af
from alignflow.metrics import mean, reweighted_mean
from alignflow.rewards import Attribute
from alignflow.steering import Method

ATTRIBUTE = "glasses"
STRENGTHS = (0.5, 1.0, 2.0, 4.0)
STEPS = 8
FOLDER = Path("outputs/steering_avatars")
METHODS = {
    "lookahead": {},
    "lookahead, step_size 1": {"step_size": 1.0},
    "lookahead_weighted": {},
    "lookahead_normalized": {"scale": 0.3},
    "dps": {},
}


class Portraits:
    """Samples with their reward and whether the judge sees the attribute."""

    def __init__(self, reward: Tensor, held: Tensor, cost: int = STEPS):
        self.reward, self.held, self.cost = reward.double(), held.double(), cost


def judged(policy, found: TensorDict) -> Portraits:
    return Portraits(found["reward"], seen(policy, found, ATTRIBUTE), forwards(found))


def chosen_by_weight(base: Portraits, strength: float, n: int = 8) -> Portraits:
    """What `importance` with n particles gives on average, for each group of n samples."""
    reward, held = (values.unflatten(0, (-1, n)) for values in (base.reward, base.held))
    weight = (strength * reward).softmax(1)
    return Portraits((weight * reward).sum(1), (weight * held).sum(1), n * STEPS)


def section(base: Portraits, found: dict[str, Portraits], strength: float) -> str:
    log_weight = strength * base.reward.double()
    exact = reweighted_mean(base.held, log_weight)
    mean_reward = reweighted_mean(base.reward, log_weight)
    rows = [["exact tilt", shown(exact), "", shown(mean_reward), "", ""]]
    for name, portraits in found.items():
        rate, reward = mean(portraits.held), mean(portraits.reward)
        n = max(round(portraits.cost / STEPS), 1)
        (best,) = best_of(n, base.reward, base.reward)
        bias = rate.value - exact.value
        cost = f"{portraits.cost / STEPS:.1f}"
        rows.append([name, shown(rate), f"{bias:+.3f}", shown(reward), cost, f"{best:.3f} (N={n})"])
    head = ["", f"rate of {ATTRIBUTE}", "bias", "mean reward", "cost", "best-of-N at that cost"]
    return f"## Strength {strength:g}\n\n{table(head, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=512, help="of each method and strength")
    parser.add_argument("--base", type=int, default=20_000, help="samples of the base")
    arguments = parser.parse_args()
    policy, reward = af.load("avatars"), Attribute(ATTRIBUTE)
    plain = af.steer(policy, reward, "importance", steps=STEPS, particles=1)

    def steered(steerer):
        return lambda n, generator: steerer.sample(n, generator=generator)

    base = judged(policy, sampled(FOLDER, "base", steered(plain), arguments.base))
    sections = []
    for strength in STRENGTHS:
        found = {}
        for name, options in METHODS.items():
            method = cast(Method, name.partition(",")[0])
            steerer = af.steer(policy, reward, method, strength, STEPS, **options)
            drawn = sampled(FOLDER, f"{name}, {strength:g}", steered(steerer), arguments.samples)
            found[name] = judged(policy, drawn)
        found["importance, N=8"] = chosen_by_weight(base, strength)
        sections.append(section(base, found, strength))
    write_page(
        "steering_avatars",
        "Steered avatars against the exact tilt",
        f"Reward: the classifier's probability of {ATTRIBUTE}; the rate is read by the judge, "
        f"which no method sees. {STEPS} steps; {arguments.samples:,} samples a method, "
        f"{arguments.base:,} of the base, whose rate is {shown(mean(base.held))}; ± is one "
        "standard error. Cost is in samples of the base: forwards of the network, a gradient "
        "counted as two, over those of a plain sample.",
        *sections,
    )


if __name__ == "__main__":
    main()
