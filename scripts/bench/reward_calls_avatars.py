"""Portraits tuned to a reward that is only scored, at equal numbers of reward calls.

    python scripts/bench/reward_calls_avatars.py [--calls 1024 4096] [--steps 200] [--samples 1000]

Policy gradient beside the tuners that score a pool once, and beside `direct`, which also has each
reward's gradient. The exact tilt is the base's samples, reweighted. Every run is stored under
outputs/reward_calls_avatars and goes on where it was cut, the base's samples under
outputs/tuning_avatars; delete both folders after a change of the model.
"""

import argparse
import functools
from pathlib import Path
from typing import Any

import torch
from page import shown, table, write_page
from tuning_avatars import DATA_STD, Judged, samples, stored_base, tuned

import alignflow as af
from alignflow.envs import DenoisingEnv
from alignflow.finetuning import MemorylessRollout
from alignflow.metrics import mean, reweighted_mean, sliced_wasserstein
from alignflow.resampling import systematic
from alignflow.rewards import AttributeLogProbability

FOLDER = Path("outputs/reward_calls_avatars")
STRENGTH = 1.0
EPISODES, USES = 64, 3  # of a group, and batches that each group is used in
PATH_STEPS = 8
BATCH = 16  # of direct, which scores each row anew
ENVIRONMENT = functools.partial(
    DenoisingEnv, steps=PATH_STEPS, transition={"name": "sde", "data_std": DATA_STD}
)


def tuners(calls: int, steps: int) -> dict[str, dict[str, Any]]:
    """Options of each tuner, by name, that make it take so many reward calls."""
    pool = {"pool": calls, "candidate_steps": 4, "refresh_every": 10**6}
    pool |= {"steps": steps, "batch_size": 32}
    return {
        "weighted": {"method": "weighted", **pool},
        "tilt": {"method": "tilt", **pool},
        "grpo": {
            "method": "grpo",
            "environment": ENVIRONMENT,
            "episodes": EPISODES,
            "refresh_every": USES,
            "steps": USES * calls // EPISODES,
            "batch_size": EPISODES // 2,
        },
        "direct": {
            "method": "direct",
            "rollout": MemorylessRollout(PATH_STEPS, data_std=DATA_STD),
            "steps": calls // BATCH,
            "batch_size": BATCH,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--steps", type=int, default=200, help="of the tuners with a pool")
    parser.add_argument("--samples", type=int, default=1000, help="of each tuned model")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    policy, reward = af.load("avatars"), AttributeLogProbability("glasses")
    states = stored_base(policy)
    base = Judged(policy, reward, states)
    generator = torch.Generator().manual_seed(0)
    log_weight = STRENGTH * base.reward.double()
    exact = states[systematic(log_weight[None], 2 * options.samples, generator)[0]]
    exact = exact[torch.randperm(len(exact), generator=generator)]
    tilted, other = exact.split(options.samples)

    def distance(drawn: torch.Tensor) -> str:
        directions = torch.Generator().manual_seed(0)
        return shown(sliced_wasserstein(drawn, tilted, generator=directions))

    rows = [
        ["base", "", shown(mean(base.reward)), shown(mean(base.glasses)),
         distance(states[: options.samples]), "", ""],
        ["exact tilt", "", shown(reweighted_mean(base.reward, log_weight)),
         shown(reweighted_mean(base.glasses, log_weight)), distance(other), "", ""],
    ]  # fmt: skip
    for calls in options.calls:
        for name, settings in tuners(calls, options.steps).items():
            folder = FOLDER / f"{name}-{calls}-{settings['steps']}"
            model, cost = tuned(policy, reward, STRENGTH, settings, folder)
            after = Judged(model, reward, samples(model, options.samples))
            rows.append(
                [name, f"{cost['calls']:,}", shown(mean(after.reward)), shown(mean(after.glasses)),
                 distance(after.states), f"{cost['vjps']:,}", f"{cost['minutes']:.1f}"]
            )  # fmt: skip
    head = ["", "reward calls", "mean reward", "rate of glasses (judge)"]
    head += ["sliced W2 to the exact tilt", "reward vjps", "minutes"]
    about = (
        f"Reward log p(glasses), strength {STRENGTH:g}, as a black box but for `direct`. "
        f"{options.samples:,} samples in 4 steps. The exact tilt is the base's samples, resampled "
        "by their weights; its own distance is that of two such sets. The judge of glasses is "
        "another network than the reward's, trained on other portraits. Standard errors behind ±."
    )
    write_page("reward_calls_avatars", "Portraits at equal reward calls", about, table(head, rows))


if __name__ == "__main__":
    main()
