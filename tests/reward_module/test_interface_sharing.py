"""Rewards shared: between processes by pickle, and between threads without a state of a call."""

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import alignflow as af
from alignflow.reward_module import Reward, Sum
from alignflow.targets import bump_reward, cycloid_reward, energy_reward, ring_reward

STATES = torch.arange(1.0, 7).view(3, 2)

MODULE = """
import alignflow as af

@af.reward(differentiable=True)
def first(endpoint, condition=None):
    return endpoint[:, 0]

@af.reward
def plain(endpoint):
    return endpoint[:, 1]

total = af.Sum({"first": (first, 1.0), "plain": (plain, 2.0)})
"""
SCRIPT = """
import copy, multiprocessing, pickle
import torch
import my_rewards
import alignflow as af

@af.reward
def of_main(endpoint):
    return endpoint[:, 0]

def scored(reward):
    return reward(torch.tensor([[1.0, 2.0]])).item()

if __name__ == "__main__":
    rewards = [my_rewards.first, my_rewards.plain, my_rewards.total, of_main]
    again = [copy.deepcopy(pickle.loads(pickle.dumps(reward))) for reward in rewards]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(scored, again + rewards))
"""


def test_decorated_rewards_reach_spawned_workers(tmp_path):
    (tmp_path / "my_rewards.py").write_text(MODULE)
    (tmp_path / "script.py").write_text(SCRIPT)
    here = os.environ | {"PYTHONPATH": str(Path(af.__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=here, capture_output=True, text=True
    )
    assert run.stdout.strip() == str([1.0, 2.0, 5.0, 1.0] * 2), run.stderr


@af.reward(differentiable=True)
def redness(endpoint, condition=None):
    return endpoint[:, 0]


def first_column(endpoint):
    return endpoint[:, 0]


PICKLED = {
    "decorated": redness,
    "wrapped": Reward(first_column, "first", on_invalid="drop"),
    "sum": Sum({"a": (redness, 1.0), "b": (first_column, 2.0)}),
    "quadratic": ring_reward(),
    "bump": bump_reward(),
    "cycloid": cycloid_reward(),
}


@pytest.mark.parametrize("reward", PICKLED.values(), ids=PICKLED)
def test_rewards_are_what_they_were_after_pickling_and_copying(reward):
    for again in (pickle.loads(pickle.dumps(reward)), copy.deepcopy(reward)):
        assert torch.equal(again(STATES), reward(STATES))
        assert repr(again) == repr(reward) and again.on_invalid == reward.on_invalid


def scores_of(images, prompts, metadata):
    return [float(len(prompts))] * len(images)


def test_adapted_and_energy_rewards_pickle():
    adapted = af.from_scores(scores_of)
    assert torch.equal(pickle.loads(pickle.dumps(adapted))(STATES), adapted(STATES))
    cluster = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(0))
    energy = energy_reward("dw4")
    assert torch.equal(pickle.loads(pickle.dumps(energy))(cluster), energy(cluster))


def test_a_sum_in_two_threads_gives_each_its_terms():
    both = Sum({"first": (Reward(first_column), 1.0), "twice": (lambda x: 2 * x[:, 0], 1.0)})

    def scored(size):
        states = torch.full((size, 2), float(size))
        total, terms = both.score_terms(states)
        right = torch.equal(total, 3 * states[:, 0]) and torch.equal(terms["first"], states[:, 0])
        return right and torch.equal(terms["twice"], 2 * states[:, 0])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(scored, [1 + i % 7 for i in range(200)]))
    assert not hasattr(both, "last_terms")
