"""Runs that tune for a range of strengths: `strength=[0, 4]`."""

import re

import pytest
import torch
from hydra import compose, initialize_config_module

import alignflow as af
from alignflow import pipeline
from alignflow.checkpoint import load_folder
from alignflow.cli import main
from alignflow.metrics import reweighted_mean
from alignflow.pipeline import ConfigError
from alignflow.results import STAGES, EvaluationResult, read
from alignflow.reward_module import RewardError
from alignflow.strengths import StrengthRange

TINY = [
    "experiment=ring",
    "strength=[0, 4]",
    "finetuner.steps=6",
    "finetuner.batch_size=16",
    "finetuner.pool=64",
    "finetuner.checkpoint_every=2",
    "~finetuner.target",
    "steerer=importance",
    "steerer.steps=2",
    "steerer.particles=3",
    "evaluation.samples=24",
    "evaluation.base_samples=64",
    "evaluation.steps=2",
    "evaluation.batch_size=64",
]


def composed(*overrides):
    with initialize_config_module("alignflow.configs", version_base="1.3"):
        return compose("config", overrides=[*TINY, *overrides])


def evaluated(folder) -> EvaluationResult:
    found = read(folder / "stages/evaluate/result.json", STAGES["evaluate"])
    assert isinstance(found, EvaluationResult)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pipeline.run(composed(), tmp_path_factory.mktemp("runs") / "run")


def test_a_run_judges_its_tuned_model_at_several_strengths_each_beside_its_own_tilt(run):
    found = evaluated(run)
    assert found.strength == 4
    assert [model.name for model in found.models] == [
        "base", "steered: importance", "tuned: weighted",
    ]  # fmt: skip
    assert [row.strength for row in found.strengths] == [0, 1, 2, 3, 4]
    # the largest is that of the run, and 0 is the base, from the same noise
    last, tuned = found.strengths[-1].model, found.models[2]
    assert last.rewards == tuned.rewards and last.tilt_check == tuned.tilt_check
    assert found.strengths[0].model.rewards == found.models[0].rewards[:24]
    rewards = torch.tensor(found.models[0].rewards, dtype=torch.float64)
    for row in found.strengths:
        check = row.model.tilt_check
        assert check is not None and check.strength == row.strength
        exact = reweighted_mean(rewards, row.strength * rewards)
        assert check.numbers["reward"].tilt.value == pytest.approx(exact.value, rel=1e-5)
        assert row.model.distance_to_base["sliced_w2"].value > 0


def test_its_report_draws_reward_and_distance_against_strength(run):
    page = (run / "report.html").read_text("utf-8")
    for said in (
        "One tuning, every strength",
        "Reward against strength",
        "sliced W2 against strength",
        "policy.sample(64, strength=4)",
    ):
        assert said in page


def test_the_tuned_policy_is_loaded_and_sampled_at_a_strength(run, tmp_path, capsys):
    folder = run / "stages/finetune/model"
    policy = af.load(folder)
    assert policy.strengths == StrengthRange(0, 4)
    assert policy.sample(4, strength=2.5).shape == (4, 2)
    picture = ["-n", "4", "-o", str(tmp_path / "grid.png")]
    assert main(["sample", str(folder), "--strength", "2.5", *picture]) == 0
    assert (tmp_path / "grid.png").exists()
    steer = ["steer", str(folder), "--reward", "ring", "--method", "best_of_n", *picture]
    assert main([*steer, "--at-strength", "2.5"]) == 0
    for words, message in (
        (["sample", str(folder), *picture], "choose one"),
        (["sample", str(folder), "--strength", "9", *picture], "strengths from 0 to 4, got 9"),
        (["sample", "ring", "--strength", "1", *picture], "takes no strength"),
        (steer, "choose one, --at-strength 4"),
        ([*steer, "--at-strength", "9"], "strengths from 0 to 4, got 9"),
    ):
        assert main(words) == 1
        assert message in capsys.readouterr().err


def test_the_summary_says_how_to_sample_it(run, capsys):
    pipeline.print_summary(run)
    said = capsys.readouterr().out
    assert re.search(r"finetune/model'? --strength 4", said)
    assert "weighted, strength 2:" in said.replace("\n ", "")


REWARD = """
from pathlib import Path

calls = []

def side(x):
    calls.append(len(x))
    if Path("broken").exists() and len(calls) > 3:
        raise RuntimeError("broken")
    return x[:, 0]
"""


def test_a_run_that_was_cut_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_side.py").write_text(REWARD)
    config = composed("reward={_target_: own_side.side}", "~judge", "finetuner.refresh_every=2")
    whole = pipeline.run(config, tmp_path / "whole")
    (tmp_path / "broken").touch()
    with pytest.raises(RewardError, match="broken"):
        pipeline.run(config, tmp_path / "cut")
    assert (tmp_path / "cut/stages/finetune").exists()
    assert not (tmp_path / "cut/stages/finetune/result.json").exists()
    (tmp_path / "broken").unlink()
    cut = pipeline.resume(tmp_path / "cut")
    models = [load_folder(each / "stages/finetune/model")[0] for each in (whole, cut)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    rewards = [[row.model.rewards for row in evaluated(each).strengths] for each in (whole, cut)]
    assert rewards[0] == rewards[1]


def test_the_strengths_that_are_judged_may_be_given(tmp_path):
    config = composed("strength=[1, 3]", "evaluation.strengths=[1, 2.5]", "~steerer",
                      "stages=[finetune, evaluate, report]")  # fmt: skip
    found = evaluated(pipeline.run(config, tmp_path / "run"))
    assert found.strength == 3
    assert [row.strength for row in found.strengths] == [1, 2.5]


def test_a_list_of_strings_is_judged_by_its_exact_tilt_at_each_strength(tmp_path):
    """The reference is made of the run's tilt, and anew of that of each strength."""
    config = compose_names()
    found = evaluated(pipeline.run(config, tmp_path / "run"))
    checks = [row.model.tilt_check for row in found.strengths]
    exact = [check.numbers["reward"].tilt for check in checks if check is not None]
    assert len(exact) == 3
    assert all(each.standard_error == 0 for each in exact)
    means = [each.value for each in exact]
    assert means == sorted(set(means))


def compose_names():
    with initialize_config_module("alignflow.configs", version_base="1.3"):
        return compose(
            "config",
            overrides=[
                "experiment=names_length", "strength=[0, 1]", "finetuner=weighted",
                "finetuner.steps=2", "finetuner.batch_size=16", "finetuner.pool=64", "~steerer",
                "stages=[finetune, evaluate, report]", "evaluation.samples=16",
                "evaluation.base_samples=32", "evaluation.strengths=[0, 0.5, 1]",
            ],
        )  # fmt: skip


def test_a_value_is_learned_for_strengths_up_to_the_largest(tmp_path):
    config = composed("value=default", "value.steps=2", "value.samples=16", "value.batch_size=4",
                      "steerer=value_guidance", "~steerer.particles", "~judge",
                      "stages=[learn_value, finetune, steer]")  # fmt: skip
    folder = pipeline.run(config, tmp_path / "run")
    assert af.load_value(folder / "stages/learn_value/model").strengths == (0, 4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["strength=[4, 0]"], "from a lower to a larger one, got strength=\\(4, 0\\)"),
        (["strength=[2, 2]"], "from a lower to a larger one"),
        (["strength=[-1, 2]"], "the lower strength must be a finite number of at least 0, got -1"),
        (["strength=[2]"], "a number, or the least and the largest of a range, got \\[2\\]"),
        (["strength=[0, 1, 2]"], "the least and the largest of a range"),
        (["strength=[0, much]"], "the upper strength must be"),
        (["strength=much"], "strength must be a finite number of at least 0"),
        (
            ["finetuner=grpo", "~finetuner.pool"],
            "grpo tunes for one strength; a range of them is for weighted, tilt",
        ),
        (["finetuner.annealing_stages=2"], "annealing_stages is for one strength"),
        (["stages=[steer, evaluate]", "~finetuner"], "only the stage finetune tunes for one"),
        (["evaluation.strengths=[0, 5]"], "in the range that is tuned for, from 0 to 4, got 5"),
        (["evaluation.strengths=2"], "evaluation.strengths must be a list of strengths, got 2"),
        (["evaluation.strengths=[-1]"], "evaluation.strengths must be a finite number of at least"),
        (["strength=2", "evaluation.strengths=[1]"], "evaluation.strengths would do nothing"),
    ],
    ids=str,
)
def test_what_is_no_range_or_no_method_for_one_is_refused_before_it_runs(
    overrides, message, tmp_path
):
    with pytest.raises((ConfigError, ValueError), match=message):
        pipeline.run(composed(*overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()
