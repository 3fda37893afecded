"""Names and fragments, steered and tuned to two rewards each, against the exact tilt of the list.

    python scripts/bench/strings_alignment.py [names] [fragments] [--samples 2000]

The lists are known with their weights, so the rate of each property under each tilt is known
without an error; what is counted are decoded samples. Each number is stored under
outputs/strings_alignment, so a run that was cut goes on where it was; delete the folder after a
change of a model.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from page import table, write_page
from rich.progress import track
from torch import Tensor

import alignflow as af
from alignflow.cost import Meter, MeteredReward
from alignflow.distillation import DecodingTimes
from alignflow.metrics import mean
from alignflow.reward_module import Reward
from alignflow.rewards import Pattern, Substructure
from alignflow.steering import ChainSteerer
from alignflow.targets import TiltedStrings

FOLDER = Path("outputs/strings_alignment")
STRENGTHS = (1.0, 3.0)
STEPS = 4  # jumps of a sample
BATCH = 50  # systems drawn at a time
BASE = 4000  # samples of the base
STEERED: dict[Any, dict[str, Any]] = {
    "importance": {"steps": 2, "particles": 64},
    # deterministic jumps keep more of a few-step map's quality than a noisy transition
    "fk": {"steps": STEPS, "particles": 64, "transition": "flow_map"},
    "source_mcmc": {"steps": 31, "jumps": STEPS},
    "waltz": {"steps": 31, "jumps": STEPS, "inner_steps": 4},
}
POOL = {"pool": 4096, "candidate_steps": STEPS, "refresh_every": 10**6}
TRAINING = {"batch_size": 128, "learning_rate": 1e-3}
TUNED: dict[Any, dict[str, Any]] = {"weighted": POOL, "tilt": POOL}
DATA = {"names": af.data.names, "fragments": af.data.fragments}
REWARDS: dict[str, dict[str, Callable[[], Reward]]] = {
    "names": {
        "ends in son": lambda: Pattern("son$", "son"),
        "ends in a vowel": lambda: Pattern("[aeiouy]$", "vowel"),
    },
    "fragments": {
        "has nitrogen": lambda: Substructure("[#7]", "nitrogen", "worst"),
        "has a halogen": lambda: Substructure("[F,Cl,Br]", "halogen", "worst"),
    },
}
HEAD = ["strength", "", "rate, %", "gap", "on the list, %", "NFE", "reward calls"]
HEAD += ["seconds to tune", "reward calls to tune"]
Numbers = dict[str, float]


class Aim:
    """A reward of a list at one strength, and what each method makes of it.

    Args:
        policy: A model of the list.
        name: Of the list.
        tilt: What is aimed at.
        options: Of the command line.
    """

    def __init__(self, policy: Any, name: str, tilt: af.Tilt, options: argparse.Namespace):
        self.policy, self.tilt, self.options = policy, tilt, options
        self.exact = TiltedStrings(DATA[name](), tilt)
        self.rate = 100 * float(self.exact.weights @ self.exact.rewards)
        self.folder = FOLDER / name

    def rows(self) -> list[list[str]]:
        """The exact tilt, then the base where nothing is asked for, or each method."""
        strength = f"{self.tilt.strength:g}"
        rows = [[strength, "exact tilt", f"{self.rate:.1f}", *[""] * 6]]
        calls = {"steered": (self.steered, STEERED), "tuned": (self.tuned, TUNED)}
        if not self.tilt.strength:
            calls = {"base": (self.base, {"plain": {}})}
        for kind, (call, methods) in calls.items():
            for method in methods:
                its = self.stored(f"{kind}-{method}", call, method)
                rows.append([strength, f"{kind}: {method}", *cells(its, self.rate)])
        return rows

    def stored(self, name: str, call: Callable[[Any], Numbers], method: str) -> Numbers:
        """The numbers that were found before, or are found and stored now."""
        file = self.folder / f"{self.tilt.reward.name}-{self.tilt.strength:g}-{name}.json"
        if not file.exists():
            found = call(method)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found))
        return json.loads(file.read_text())

    def base(self, method: str) -> Numbers:
        return self.counted(plain(self.policy), BASE, method) | {"nfe": STEPS}

    def steered(self, method: Any) -> Numbers:
        steerer = af.steer(self.policy, self.tilt, method, **STEERED[method])
        chains = isinstance(steerer, ChainSteerer)
        costs: Numbers = {}
        rewards: list[Tensor] = []

        def sample(count: int, seed: int) -> Tensor:
            out = steerer.sample(count, generator=torch.Generator().manual_seed(seed))
            costs.update(nfe=float(out["nfe"]), reward_calls=float(out["reward_calls"]))
            particles: Any = out["particles"]
            weight = particles["log_weight"].double().softmax(1)
            rewards.append((weight * particles["reward"]).sum(1))
            return out["state"]

        systems = self.options.samples if chains else self.options.systems
        found = self.counted(sample, systems, method)
        rate = mean(torch.cat(rewards))  # of all particles, one of which is the sample
        return found | {"rate": 100 * rate.value, "error": 100 * rate.standard_error} | costs

    def tuned(self, method: Any) -> Numbers:
        meter, start = Meter(), time.perf_counter()
        tilt = self.tilt.with_reward(MeteredReward(self.tilt.reward, meter))
        times = DecodingTimes(self.policy.event_shape[-1], boundary=0.2)
        options = TRAINING | TUNED[method] | {"steps": self.options.steps, "times": times}
        model = af.finetune(self.policy, tilt, method, generator=0, **options)
        seconds = time.perf_counter() - start
        found = self.counted(plain(model), self.options.samples, method)
        return found | {
            "nfe": STEPS,
            "seconds": seconds,
            "tuning_calls": float(meter.total.reward_calls),
        }

    def counted(self, sample: Callable[[int, int], Tensor], n: int, title: str) -> Numbers:
        """In n samples, in percent: the rate, its standard error, and the rate on the list."""
        starts = range(0, n, BATCH)
        states = [sample(min(BATCH, n - first), first) for first in track(starts, title)]
        texts = self.policy.decode(torch.cat(states))
        rate = mean(self.tilt.reward(texts).double())
        return {
            "rate": 100 * rate.value,
            "error": 100 * rate.standard_error,
            "on_list": 100 - 100 * self.exact.compare(texts)["off_list"].value,
        }


def plain(policy: Any) -> Callable[[int, int], Tensor]:
    """Samples of a model by plain jumps, by their number and seed."""
    return lambda n, seed: policy.sample(n, STEPS, generator=torch.Generator().manual_seed(seed))


def cells(its: Numbers, exact: float) -> list[str]:
    """A row of a table, of numbers in percent, beside the exact rate."""
    tuning = its.get("seconds"), its.get("tuning_calls")
    return [
        f"{its['rate']:.1f} ± {its['error']:.1f}",
        f"{its['rate'] - exact:+.1f}",
        f"{its['on_list']:.1f}",
        f"{its['nfe']:g}",
        f"{its.get('reward_calls', 0):g}",
        *("" if number is None else f"{number:,.0f}" for number in tuning),
    ]


def section(name: str, which: str, options: argparse.Namespace) -> str:
    """The table of one reward of a list."""
    policy, reward = af.load(f"{options.models}{name}"), REWARDS[name][which]()
    aims = (Aim(policy, name, af.Tilt(reward, s), options) for s in (0.0, *STRENGTHS))
    rows = [row for aim in aims for row in aim.rows()]
    return f"## {name.capitalize()}: {which}\n\n{table(HEAD, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lists", nargs="*", metavar="LIST", help=f"of {', '.join(REWARDS)}")
    parser.add_argument("--samples", type=int, default=2000, help="of each tuned model, and chains")
    parser.add_argument("--systems", type=int, default=200, help="of particles, of each steerer")
    parser.add_argument("--steps", type=int, default=600, help="of a tuning")
    parser.add_argument("--models", default="", help="before the names of other models: a folder/")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if unknown := set(options.lists) - set(REWARDS):
        parser.error(f"no list {', '.join(sorted(unknown))}; there are {', '.join(REWARDS)}")
    torch.set_num_threads(options.threads)
    names = options.lists or REWARDS
    sections = [section(name, which, options) for name in names for which in REWARDS[name]]
    write_page(
        "strings_alignment",
        "Names and fragments, steered and tuned, against the exact tilt",
        f"The exact rates are those of the whole list, reweighted. {options.samples:,} samples of "
        f"each tuned model at {STEPS} steps, {BASE:,} of the base (strength 0), and "
        f"{options.systems:,} systems of particles of each steerer, which count by their weights, "
        "as the samples drawn among them do on average; of chains, the ends of "
        f"{options.samples:,}. "
        "± is one standard error, the gap is to the "
        "exact rate, in points. NFE and reward calls are of one sample. A tuning takes "
        f"{options.steps} steps of batch {TRAINING['batch_size']}, at times by decoding, on a pool "
        f"of {POOL['pool']:,} samples of the base, each scored once.",
        *sections,
    )


if __name__ == "__main__":
    main()
