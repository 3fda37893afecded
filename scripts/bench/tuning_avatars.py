"""Tuned avatars: each tuner with a differentiable, a learned and a black-box reward.

    python scripts/bench/tuning_avatars.py [redness] [glasses] [png_size] [--steps 300]

A page for each reward: what it gained, beside what the exact tilt would give (the base's samples,
reweighted), what a judge that was never optimized sees, diversity, the distance to the base, and
the cost. Every run is stored under outputs/tuning_avatars and goes on where it was cut; delete the
folder after a change of the model.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, cast

import torch
from page import shown, table, write_page
from torch import Tensor

import alignflow as af
from alignflow.cost import Meter, MeteredReward
from alignflow.data import ATTRIBUTES
from alignflow.finetuning import MapRollout, MemorylessRollout
from alignflow.metrics import diversity, mean, reweighted_mean, sliced_wasserstein
from alignflow.policies import load_judge
from alignflow.precision import autocast, fastest
from alignflow.rewards import AttributeLogProbability, Color, Compressibility

FOLDER = Path("outputs/tuning_avatars")
STEPS = 4  # of samples
BASE = 10_000
POOL = {"pool": 4096, "candidate_steps": STEPS, "refresh_every": 10**6}
DATA_STD = 0.5  # of the portraits
# of those whose step is an inner flow for each row, or eight states of each path
LONG = {"steps": 100}
PATHS = {"rollout": MemorylessRollout(8, data_std=DATA_STD), **LONG}
TUNERS: dict[str, dict[str, Any]] = {
    "weighted": {"method": "weighted", **POOL},
    "itm": {"method": "itm", **POOL},
    "tilt": {"method": "tilt", **POOL},
    "etm, 4 stages": {"method": "etm", "annealing_stages": 4, **POOL},
    "mfm, gradient_free": {"method": "mfm", "value": "gradient_free", **POOL, **LONG},
    "adjoint_matching": {"method": "adjoint_matching", **PATHS},
    "direct, path KL": {"method": "direct", **PATHS},
    "direct, none": {"method": "direct", "regularizer": None, "rollout": MapRollout(2)},
}
GRADIENT = {"adjoint_matching", "direct"}
REWARDS = {
    "redness": (lambda: Color([1.0, 0.0, 0.0], "redness"), 20.0, "redness (differentiable)"),
    "glasses": (lambda: AttributeLogProbability("glasses"), 1.0, "log p(glasses) (learned)"),
    "png_size": (lambda: Compressibility("png"), 20.0, "PNG size (black box)"),
}


def tuned(policy, reward, strength: float, settings: dict[str, Any], folder: Path):
    """The policy tuned by settings of `finetune`, and what it cost, stored in a folder."""
    if (folder / "model").exists():
        return af.load(folder / "model"), json.loads((folder / "cost.json").read_text())
    meter, start = Meter(), time.perf_counter()
    metered = MeteredReward(reward, meter)
    with autocast(fastest()):  # training, and the drawing of candidates
        model = af.finetune(policy, metered, strength=strength, **settings)
    found: dict[str, float] = {"calls": meter.total.reward_calls, "vjps": meter.total.reward_vjps}
    found["minutes"] = (time.perf_counter() - start) / 60
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cost.json").write_text(json.dumps(found))
    cast(Any, model).save(folder / "model")
    return model, found


@torch.no_grad()
def samples(policy, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    sizes = [min(250, n - start) for start in range(0, n, 250)]
    with autocast(fastest()):
        return torch.cat([policy.sample(size, STEPS, generator=generator) for size in sizes])


def stored_base(policy) -> Tensor:
    """Samples of the base, drawn once."""
    file = FOLDER / f"base-{BASE}.pt"
    if not file.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        torch.save(samples(policy, BASE), file)
    return torch.load(file)


class Judged:
    """What is told of samples."""

    @torch.no_grad()
    def __init__(self, policy, reward, states: Tensor):
        judge = load_judge("avatars")
        parts = states.split(500)
        logits = torch.cat([judge(policy.decode(part)) for part in parts])
        self.reward = torch.cat([reward.score(part, decode=policy.decode) for part in parts])
        self.glasses = (logits[:, list(ATTRIBUTES).index("glasses")] > 0).float()
        self.states = states


def compared(reward, strength: float, policy, base: Tensor, options: argparse.Namespace) -> str:
    """Table of the tuners that take the reward."""
    before = Judged(policy, reward, base)
    log_weight = strength * before.reward.double()
    rows = [
        ["base", shown(mean(before.reward)), shown(mean(before.glasses)),
         shown(diversity(base[:2000])), "", "", "", ""],
        ["exact tilt", shown(reweighted_mean(before.reward, log_weight)),
         shown(reweighted_mean(before.glasses, log_weight)), "", "", "", "", ""],
    ]  # fmt: skip
    for tuner, settings in TUNERS.items():
        if settings["method"] in GRADIENT and not reward.differentiable:
            continue
        settings = {"steps": options.steps, "batch_size": 32, **settings}
        folder = FOLDER / f"{reward.name}-{tuner}-{settings['steps']}".replace(" ", "_")
        model, cost = tuned(policy, reward, strength, settings, folder)
        after = Judged(model, reward, samples(model, options.samples))
        generator = torch.Generator().manual_seed(0)
        distance = sliced_wasserstein(after.states, base[-options.samples :], generator=generator)
        rows.append(
            [tuner, shown(mean(after.reward)), shown(mean(after.glasses)),
             shown(diversity(after.states)), shown(distance), f"{cost['calls']:,}",
             f"{cost['vjps']:,}", f"{cost['minutes']:.1f}"]
        )  # fmt: skip
    head = ["", "mean reward", "rate of glasses (judge)", "diversity", "sliced W2 to the base"]
    head += ["reward calls", "reward vjps", "minutes"]
    return table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rewards", nargs="*", metavar="REWARD", help=f"of {', '.join(REWARDS)}")
    parser.add_argument("--steps", type=int, default=300, help="of a tuner whose step is short")
    parser.add_argument("--samples", type=int, default=1000, help="of each tuned model")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    # argparse's own choices would refuse that none is given
    if unknown := set(options.rewards) - set(REWARDS):
        parser.error(f"no reward {', '.join(sorted(unknown))}; there are {', '.join(REWARDS)}")
    torch.set_num_threads(options.threads)
    policy = af.load("avatars")
    base = stored_base(policy)
    about = (
        f"{options.steps} steps of batch 32 each, {LONG['steps']} where a step is long (`mfm`, an "
        "inner flow for each row; `adjoint_matching` and `direct` with path KL, eight states of "
        "each path), in bfloat16 where the processor has it; "
        f"{options.samples:,} samples at {STEPS} steps, of the base {BASE:,}. The judge "
        "of glasses is another network than the reward's, trained on other portraits. Distances to "
        "the base are between independent samples. Standard errors behind ±."
    )
    for name in options.rewards or REWARDS:
        make, strength, title = REWARDS[name]
        rows = compared(make(), strength, policy, base, options)
        title = f"Tuners on portraits: {title}, strength {strength:g}"
        write_page(f"tuning_avatars_{name}", title, about, rows)


if __name__ == "__main__":
    main()
