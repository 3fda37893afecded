"""A run that is cut, by an error or by SIGKILL, ends at the weights of one that was not."""

import json
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
import torch

import alignflow as af
from alignflow.distillation import pretrain
from alignflow.envs import DenoisingEnv
from alignflow.finetuning import Langevin, MemorylessPaths, MemorylessRollout
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.targets import GaussianMixture

ROOT = Path(__file__).parents[2]
SETTINGS = {"steps": 12, "batch_size": 16, "checkpoint_every": 4, "log_every": 1}


class Cut(Exception):
    pass


def cut_at(step):
    def progress(now, steps, metrics):
        if now == step:
            raise Cut

    return progress


def policy():
    torch.manual_seed(0)
    return FlowMapPolicy(MLP(1, width=8, depth=2), (1,))


@af.reward(differentiable=True)
def first(x):
    return x[:, 0]


def learn(**options):
    data = torch.linspace(-1, 1, 64)[:, None]
    return pretrain(policy(), data, generator=torch.Generator().manual_seed(1), **options)


def weigh(**options):
    generator = torch.Generator().manual_seed(1)
    options |= {"pool": 64, "refresh_every": 5}
    return af.finetune(policy(), first, "weighted", 0.5, generator=generator, **options)


def weigh_twice(**options):
    return weigh(annealing_stages=2, **options)


def weigh_and_recenter(**options):
    return weigh(annealing_stages=2, recentering=3, **options)


def weigh_and_redistil(**options):
    return weigh(redistillation=4, **options)


def weigh_and_move(**options):
    reward = af.reward(differentiable=True)(first)
    distribution = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1, 1))
    options |= {
        "recentering": 3,
        "langevin": Langevin(distribution, 5),
        "pool": 64,
        "refresh_every": 5,
    }
    generator = torch.Generator().manual_seed(1)
    return af.finetune(policy(), reward, "weighted", 0.5, generator=generator, **options)


def backpropagate(**options):
    generator = torch.Generator().manual_seed(1)
    options |= {"rollout": MemorylessRollout(2)}
    return af.finetune(policy(), first, "direct", 0.5, generator=generator, **options)


def act(**options):
    generator = torch.Generator().manual_seed(1)
    options |= {"environment": partial(DenoisingEnv, steps=2), "episodes": 32, "refresh_every": 5}
    return af.finetune(policy(), first, "grpo", 0.5, generator=generator, **options)


def regress_paths(**options):
    options |= {"pool": 24, "refresh_every": 5, "paths": MemorylessPaths(2), "generator": 1}
    return af.finetune(policy(), first, "log_variance", 0.5, **options)


def weigh_paths(**options):
    options |= {"pool": 64, "refresh_every": 5, "paths": MemorylessPaths(2), "generator": 1}
    return af.finetune(policy(), first, "proximal", 0.5, **options)


class Flaky:
    """The reward x, which is away at some of its calls."""

    def __init__(self, *away):
        self.calls, self.away = 0, away

    def __call__(self, x):
        self.calls += 1
        if self.calls in self.away:
            raise RuntimeError("the reward is away")
        return x[:, 0]


def scored(function):
    return af.reward(differentiable=True, name="flaky")(function)


def match_velocities(reward, **options):
    options |= {"pool": 64, "refresh_every": 3, "generator": 1}
    return af.finetune(policy(), scored(reward), options.pop("method"), 0.5, **options)


def follow(reward, **options):
    rollout = MemorylessRollout(2)
    return af.finetune(
        policy(), scored(reward), options.pop("method"), 0.5, rollout=rollout, **options
    )


def walk(reward, **options):
    options |= {"pool": 16, "refresh_every": 3, "paths": MemorylessPaths(2), "generator": 1}
    return af.finetune(policy(), scored(reward), options.pop("method"), 0.5, **options)


def act_for(reward, **options):
    environment = partial(DenoisingEnv, steps=2)
    options |= {"environment": environment, "episodes": 16, "refresh_every": 3, "generator": 1}
    return af.finetune(policy(), scored(reward), options.pop("method"), 0.5, **options)


def same(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize(
    "run",
    [
        learn,
        weigh,
        weigh_twice,
        weigh_and_recenter,
        weigh_and_redistil,
        weigh_and_move,
        backpropagate,
        act,
        regress_paths,
        weigh_paths,
    ],
)
def test_a_run_cut_by_an_error_goes_on_to_the_same_bits(run, tmp_path):
    whole = run(**SETTINGS)
    for step in (3, 6):
        with pytest.raises(Cut):
            run(folder=tmp_path, progress=cut_at(step), **SETTINGS)
    assert same(run(folder=tmp_path, **SETTINGS), whole)
    # a run that is complete is read, not run again
    assert same(run(folder=tmp_path, progress=cut_at(1), **SETTINGS), whole)


@pytest.mark.parametrize(
    ("run", "method"),
    [(match_velocities, name) for name in ("weighted", "etm", "itm", "tilt", "mfm", "nft")]
    + [(follow, name) for name in ("direct", "adjoint_matching")]
    + [(walk, name) for name in ("log_variance", "proximal")]
    + [(act_for, "grpo")],
)
def test_a_reward_that_fails_at_any_call_changes_no_bit(run, method, tmp_path):
    """Each call in turn fails, of a step or of the monitor, and the run is started again."""
    settings = {"method": method, "steps": 6, "batch_size": 8, "annealing_stages": 1}
    settings |= {"checkpoint_every": 2, "log_every": 1}
    reward = Flaky()
    whole = run(reward, folder=tmp_path / "whole", **settings)
    for number in range(1, reward.calls + 1):
        folder = tmp_path / str(number)
        with pytest.raises(af.RewardError, match="is away"):
            run(Flaky(number), folder=folder, **settings)
        assert same(run(Flaky(), folder=folder, **settings), whole), number
        assert lines(folder) == lines(tmp_path / "whole"), number


def lines(folder):
    """Of metrics, without times."""
    text = (folder / "metrics.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text
    parsed = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds_per_step"} for line in parsed]


def test_a_run_cut_while_it_recenters_moves_no_samples_again(tmp_path, monkeypatch):
    def cut(step, steps, metrics):
        if (step, steps) == (2, 3):
            raise Cut

    whole = weigh_and_move(**SETTINGS)
    with pytest.raises(Cut):
        weigh_and_move(folder=tmp_path, progress=cut, **SETTINGS)
    monkeypatch.setattr(Langevin, "__call__", None)
    assert same(weigh_and_move(folder=tmp_path, **SETTINGS), whole)


def test_a_killed_process_goes_on_to_the_same_bits(tmp_path):
    child = textwrap.dedent(f"""
        import os, signal, sys
        import torch
        torch.set_num_threads(1)
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_resume

        def kill(step, steps, metrics):
            if step == 6:
                os.kill(os.getpid(), signal.SIGKILL)

        test_resume.weigh(folder={str(tmp_path)!r}, progress=kill, **test_resume.SETTINGS)
    """)
    done = subprocess.run([sys.executable, "-c", child], cwd=ROOT)
    assert done.returncode == -9
    assert (tmp_path / "checkpoint").exists()
    assert same(weigh(folder=tmp_path, **SETTINGS), weigh(**SETTINGS))
