"""Runs: their folder, their order, what a cut run keeps, and what is refused before it starts."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from hydra import compose, initialize_config_module

import alignflow
from alignflow import pipeline
from alignflow.checkpoint import load_folder
from alignflow.metrics import reweighted_mean, wilson_interval
from alignflow.pipeline import ConfigError
from alignflow.pipeline.display import duration
from alignflow.pipeline.summary import print_summary
from alignflow.reward_module import RewardError
from alignflow.tilt import Tilt

RING = [
    "policy=ring",
    "policy._target_=alignflow.targets.ring",
    "~policy.name",
    "reward=ring",
    "judge=ring",
    "evaluation={samples: 6, base_samples: 8, steps: 2, batch_size: 4}",
]
EXACT_RING = [*RING, "steerer=importance", "steerer.steps=2", "steerer.particles=3"]
TRAINING = [
    "policy=mlp",
    "policy.module.width=8",
    "policy.module.depth=1",
    "data=ring",
    "training=default",
    "training.steps=60",
    "training.batch_size=4",
    "training.checkpoint_every=20",
    "stages=[pretrain]",
]


def composed(*overrides):
    with initialize_config_module("alignflow.configs", version_base="1.3"):
        return compose("config", overrides=[*overrides])


@pytest.fixture
def own_modules(tmp_path, monkeypatch):
    """A working directory of the user's own, with a writer of modules into it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> None:
        sys.modules.pop(name, None)
        (tmp_path / f"{name}.py").write_text(text)

    return write


# --- beside a reference ---


def test_a_model_that_is_the_reference_is_as_near_as_chance_has_it(tmp_path):
    sizes = "evaluation={samples: 400, base_samples: 400, steps: 2, batch_size: 200, weighed: 300}"
    config = composed(
        *RING[:-1],
        sizes,
        "reference={_target_: alignflow.targets.ring}",
        "stages=[evaluate,report]",
    )
    run = pipeline.run(config, tmp_path / "run")
    found = json.loads((run / "stages/evaluate/result.json").read_text())["reference"]
    assert set(found["distances"]) == {"reference", "base"}
    for what in ("state", "reward"):
        best, own = (found["distances"][name][what] for name in ("reference", "base"))
        assert own[0] < 3 * best[0] + 5 * own[1]
    fractions = found["histograms"]["reward"]["fractions"]
    assert all(sum(fraction) == pytest.approx(1) for fraction in fractions.values())
    # the flow is the reference's own, so its weights are all the same
    weighed = found["weighed"]["base"]
    assert weighed["n"] == 300 and weighed["ess_fraction"] == pytest.approx(1, abs=0.01)
    assert "Against the reference" in (run / "report.html").read_text("utf-8")


def test_samples_in_few_jumps_are_weighed_by_their_own_density(tmp_path):
    sizes = "evaluation={samples: 20, base_samples: 20, steps: 2, batch_size: 20, weighed: 30}"
    config = composed(
        *RING[:-1],
        sizes,
        "+evaluation.weighed_steps=2",
        "reference={_target_: alignflow.targets.ring}",
        "stages=[evaluate,report]",
    )
    run = pipeline.run(config, tmp_path / "run")
    found = json.loads((run / "stages/evaluate/result.json").read_text())["reference"]
    weighed = found["weighed"]["base"]
    assert (weighed["n"], weighed["steps"]) == (30, 2)
    assert weighed["ess_fraction"] == pytest.approx(1, abs=0.01)
    assert "base</span>, jumps: 2" in (run / "report.html").read_text("utf-8")


def test_steps_of_nothing_that_is_weighed_are_refused():
    config = composed(*RING, "stages=[evaluate]", "evaluation.weighed_steps=4")
    with pytest.raises(ConfigError, match="evaluation.weighed_steps would do nothing"):
        pipeline.check_config(config)


def test_weighing_without_a_reference_is_refused():
    config = composed(*RING, "stages=[evaluate]", "evaluation.weighed=5")
    with pytest.raises(ConfigError, match="evaluation.weighed needs a reference"):
        pipeline.check_config(config)


# --- the exact tilt ---


def log_weight(rewards, strength):
    return Tilt(lambda x: x, strength).log_weight(rewards.double())


@pytest.mark.parametrize("strength", [0.0, 1.0, 3.0])
def test_reweighting_an_indicator_gives_the_closed_form_of_its_tilt(strength):
    held = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    p = 2 / 7
    expected = p * math.exp(strength) / (p * math.exp(strength) + 1 - p)
    tilted = reweighted_mean(held, log_weight(held, strength))
    assert tilted.value == pytest.approx(expected, abs=1e-12)


def test_the_error_of_a_reweighted_mean_is_its_spread_over_repetitions(generator):
    # 400 repetitions of n = 500: their spread is known to about 4 %
    rewards = torch.randn((400, 500), generator=generator, dtype=torch.float64)
    estimates = [reweighted_mean(row.square(), log_weight(row, 0.5)) for row in rewards]
    spread = torch.tensor([e.value for e in estimates]).std().item()
    told = sum(e.standard_error for e in estimates) / len(estimates)
    assert told == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_a_dropped_sample_counts_nothing_in_a_reweighted_mean(strength):
    rewards = torch.tensor([0.0, 1.0, -torch.inf])
    weights = log_weight(rewards, strength)
    kept = reweighted_mean(torch.tensor([3.0, 5.0]), weights[:2])
    assert reweighted_mean(torch.tensor([3.0, 5.0, 7.0]), weights) == kept
    of_rewards = reweighted_mean(rewards, weights)
    assert of_rewards == reweighted_mean(rewards[:2], weights[:2])


def test_a_fraction_has_wilson_s_interval():
    # Wilson's interval of 1 in 10 at z = 1.96, by hand
    found = msgspec.structs.astuple(wilson_interval(1, 10))
    assert found == pytest.approx([0.1, 0.0179, 0.4042], abs=1e-4)
    none = wilson_interval(0, 10)
    assert [none.value, none.low] == [0.0, 0.0] and wilson_interval(10, 10).high == 1.0


# --- a run and its folder ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "ring"
    pipeline.run(composed(*EXACT_RING), folder, "alignflow run the ring")
    return folder


def test_a_run_leaves_everything_that_tells_what_it_was(finished):
    assert (finished / "command.txt").read_text() == "alignflow run the ring\n"
    assert "particles: 3" in (finished / "config.yaml").read_text()
    versions = json.loads((finished / "versions.json").read_text())
    assert versions["seed"] == 0 and versions["packages"]["alignflow"] == alignflow.__version__
    assert "/" not in json.dumps(versions)
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == ["steer", "evaluate", "report"]
    assert (finished / "report.html").stat().st_size > 1000
    assert "importance" in (finished / "stages/steer/graph.txt").read_text()
    assert len(json.loads((finished / "stages/steer/graph.json").read_text())["nodes"]) > 1


def test_the_evaluation_judges_every_model_beside_the_exact_tilt(finished):
    result = json.loads((finished / "stages/evaluate/result.json").read_text())
    base, steered = result["models"]
    assert (base["name"], steered["name"]) == ("base", "steered: importance")
    assert len(base["rewards"]) == 8 and len(steered["rewards"]) == 6
    assert sum(rate for rate, _, _ in base["rates"].values()) == pytest.approx(1)
    assert base["cost"]["nfe"] == 2 and base["distance_to_base"] == {}
    assert steered["cost"]["reward_calls"] == 3 and steered["distance_to_base"]
    assert 1 <= result["tilt"]["ess"] <= 8
    assert result["tilt"]["mean_reward"][0] >= base["mean_reward"][0]
    assert result["event"] == "points" and result["strength"] == 1.0
    samples, _ = load_folder(finished / "stages/evaluate/samples")
    assert {name: tuple(x.shape) for name, x in samples.items()} == {
        "base": (6, 2),
        "steered: importance": (6, 2),
    }


def test_each_model_has_a_verdict_in_the_result_the_report_and_on_the_terminal(finished, capsys):
    base, steered = json.loads((finished / "stages/evaluate/result.json").read_text())["models"]
    check = steered["tilt_check"]
    assert base["tilt_check"] is None
    assert check["reached"] is None and "cannot be told: the 8 samples" in check["verdict"]
    assert 1 <= check["particle_ess"][0] <= 3
    assert check["verdict"] in (finished / "report.html").read_text("utf-8")
    print_summary(finished)
    shown = " ".join(capsys.readouterr().out.split())
    assert f"steered: importance: {check['verdict']}" in shown


def test_models_are_compared_at_the_same_noise(tmp_path):
    # what is steered jumps like the base where nothing is corrected
    config = composed(
        "policy=mlp",
        "policy.module.width=8",
        *RING[3:],
        "steerer=lookahead",
        "steerer.steps=2",
        "strength=0",
        "stages=[steer, evaluate]",
    )
    folder = pipeline.run(config, tmp_path / "run")
    samples, _ = load_folder(folder / "stages/evaluate/samples")
    torch.testing.assert_close(samples["steered: lookahead"], samples["base"])


def test_resuming_a_finished_run_does_nothing_again(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    pipeline.resume(finished)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_stage_without_a_result_is_done_again_from_what_is_kept(finished):
    (finished / "stages/evaluate/result.json").rename(finished / "kept.json")
    pipeline.resume(finished)
    again = (finished / "stages/evaluate/result.json").read_text()
    assert again == (finished / "kept.json").read_text()


def test_a_model_that_a_run_trains_is_the_one_it_aligns(tmp_path):
    config = composed(
        *TRAINING[:-1],
        "training.steps=3",
        "reward=ring",
        "steerer=best_of_n",
        "steerer.steps=1",
        "evaluation={samples: 4, base_samples: 4, steps: 1, batch_size: 4}",
        "stages=[pretrain, steer, evaluate]",
    )
    folder = pipeline.run(config, tmp_path / "run")
    policy = alignflow.load(folder / "stages/pretrain/model")
    generator = torch.Generator().manual_seed(1_000_003)
    with torch.no_grad():
        expected = policy.sample(4, steps=1, generator=generator)
    samples, _ = load_folder(folder / "stages/evaluate/samples")
    torch.testing.assert_close(samples["base"], expected)


@pytest.mark.parametrize("data", ["data=ring", "~data"])
def test_a_posterior_that_a_run_learns_is_the_one_it_steers_by(data, tmp_path):
    overrides = [word for word in TRAINING[:-1] if not word.startswith("data")]
    overrides += [] if data == "~data" else [data]
    config = composed(
        *overrides,
        "training.steps=3",
        "reward=ring",
        "steerer=mfm_gf",
        "steerer.steps=2",
        "evaluation={samples: 4, base_samples: 4, steps: 1, batch_size: 4}",
        "stages=[learn_posterior, steer, evaluate]",
    )
    folder = pipeline.run(config, tmp_path / "run")
    assert alignflow.load(folder / "stages/learn_posterior/model").has_posterior_flow
    result = json.loads((folder / "stages/steer/result.json").read_text())
    assert result["method"] == "mfm_gf" and result["n"] == 4


def test_a_tuned_model_is_judged_beside_its_base(tmp_path):
    config = composed(
        "policy=mlp",
        "policy.module.width=8",
        *RING[3:],
        "finetuner=weighted",
        "finetuner.steps=2",
        "finetuner.batch_size=4",
        "finetuner.pool=16",
        "+held_out.also._target_=alignflow.targets.ring_reward",
        "stages=[finetune, evaluate]",
    )
    folder = pipeline.run(config, tmp_path / "run")
    base, tuned = json.loads((folder / "stages/evaluate/result.json").read_text())["models"]
    assert tuned["name"] == "tuned: weighted" and tuned["rewards"] != base["rewards"][:6]
    assert tuned["held_out"]["also"] == pytest.approx(tuned["mean_reward"])
    assert "held_out_also" in (folder / "stages/finetune/metrics.jsonl").read_text()
    spent = json.loads((folder / "stages/finetune/result.json").read_text())
    assert spent["reward_calls"] > 16 and spent["reward_vjps"] == 0


# --- a run that is cut ---


DATA = """
import os, signal
import torch

class Points:
    drawn = 0
    def sample(self, n, generator=None):
        self.drawn += 1
        if self.drawn == int(os.environ.get("DIE_AT", 0)):
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.randn((n, 2), generator=generator)
"""


def test_a_training_killed_by_sigkill_resumes_to_the_same_bits(own_modules, tmp_path):
    own_modules("my_data", DATA)
    overrides = [*TRAINING, "data=ring", "data._target_=my_data.Points", "name=killed"]
    command = [sys.executable, "-m", "alignflow.cli", "run", *overrides, "hydra.run.dir=killed"]
    root = str(Path(alignflow.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": root, "DIE_AT": "47", "OMP_NUM_THREADS": "1"}
    died = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert died.returncode == -signal.SIGKILL
    _, facts = load_folder(tmp_path / "killed/stages/pretrain/checkpoint")
    assert facts["step"] == 40

    resumed = pipeline.resume(tmp_path / "killed")
    unbroken = pipeline.run(composed(*overrides), tmp_path / "unbroken")
    ours, _ = load_folder(resumed / "stages/pretrain/model")
    theirs, _ = load_folder(unbroken / "stages/pretrain/model")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


REWARD = """
import alignflow as af

calls = 0
fail_at = {fail_at}

@af.reward
def moody(points):
    global calls
    calls += 1
    if calls == fail_at:
        raise RuntimeError("the scoring service is away")
    return points[:, 0]
"""


def test_a_reward_that_raises_names_resume_which_ends_as_an_unbroken_run_does(
    own_modules, tmp_path
):
    overrides = [*EXACT_RING, "reward=custom", "reward._target_=moody.moody"]
    own_modules("moody", REWARD.format(fail_at=4))
    with pytest.raises(RewardError, match="service is away(.|\n)*alignflow resume .*broken") as e:
        pipeline.run(composed(*overrides), tmp_path / "broken")
    assert isinstance(e.value.__cause__, RewardError)
    assert (tmp_path / "broken/stages/steer/result.json").exists()
    own_modules("moody", REWARD.format(fail_at=None))
    broken = pipeline.resume(tmp_path / "broken")
    unbroken = pipeline.run(composed(*overrides), tmp_path / "unbroken")
    ours, theirs = (
        json.loads((run / "stages/evaluate/result.json").read_text())["models"]
        for run in (broken, unbroken)
    )
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["rewards"] == other["rewards"]


# --- refusals ---


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+sed=1"], "unknown config key sed"),
        (["stages=[steer, bake]"], "stages must be some of"),
        (["stages=[evaluate, steer]"], "in the order"),
        (["~reward"], "needs reward: choose one, reward=NAME"),
        (["data=ring"], "data is set, but none of the stages"),
        (["stages=[evaluate]"], "steerer is set, but none of the stages"),
        (["reward=custom"], "reward._target_ open"),
        (
            ["finetuner=weighted", "+finetuner.strength=3", "stages=[finetune, steer, evaluate]"],
            "finetuner.strength: the strength of a run stands once.*: strength=3",
        ),
        (["+evaluation.sampels=3"], "sampels"),
        (["evaluation.samples=1"], "at least 2"),
        (["condition=[]"], "condition"),
        (["stages=[steer, report]"], "add evaluate"),
        (["compile=true"], "compile is set, but no stage trains"),
        (["precision=fp8"], "precision must be one of fp32, bf16"),
    ],
    ids=str,
)
def test_a_config_that_could_not_do_what_it_says_is_refused_before_it_runs(
    overrides, message, tmp_path
):
    with pytest.raises(ConfigError, match=message):
        pipeline.run(composed(*EXACT_RING, *overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+steerer.eta=1", "does not take eta"),
        ("reward._target_=nowhere.reward", "cannot be imported"),
        ("judge._target_=alignflow.nothing", "alignflow.nothing"),
        ("steerer.method=lookahaed", "method must be one of"),
    ],
)
def test_a_part_that_cannot_be_built_stops_a_run_before_it_begins(override, message, tmp_path):
    with pytest.raises(Exception, match=message):
        pipeline.run(composed(*EXACT_RING, override), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_an_experiment_says_of_a_part_that_is_dropped_goes_with_it():
    config = composed("experiment=ring", "~finetuner", "stages=[steer, evaluate, report]")
    assert "steps" in config.finetuner
    assert "finetuner" not in pipeline.without_remnants(config)


def test_a_folder_that_holds_another_run_is_refused(finished):
    with pytest.raises(ConfigError, match="another config.*alignflow resume"):
        pipeline.run(composed(*EXACT_RING, "seed=1"), finished)


def test_resuming_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no run folder"):
        pipeline.resume(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_a_duration_is_told_in_the_unit_that_fits(seconds, words):
    assert duration(seconds) == words
