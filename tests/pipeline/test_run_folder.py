"""Run folders: one run at a time, of one config, whose code is its own, and nothing left behind."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from alignflow import pipeline
from alignflow.checkpoint import load_folder
from alignflow.cli import main
from alignflow.pipeline import ConfigError
from alignflow.pipeline.folder import RunFolder
from alignflow.training import Trainer

TINY = [
    "policy=mlp",
    "policy.module.width=8",
    "policy.module.depth=1",
    "reward=ring",
    "steerer=importance",
    "steerer.steps=2",
    "steerer.particles=3",
    "evaluation={samples: 6, base_samples: 8, steps: 2, batch_size: 4, weighed: 0}",
]
MODULE = """
import os, signal
from pathlib import Path
import torch
import alignflow as af

@af.reward
def slow(points):
    if "STOP" in os.environ and Path("run/stages/steer/batches/00000").exists():
        os.kill(os.getpid(), getattr(signal, os.environ.pop("STOP")))
    return points[:, 0]

class Net(torch.nn.Module):
    def __init__(self, hidden=8):
        super().__init__()
        self.inner, self.outer = torch.nn.Linear(4, hidden), torch.nn.Linear(hidden, 2)

    def forward(self, x, s, t, condition=None):
        times = torch.stack([s, t], dim=1)
        return self.outer(torch.tanh(self.inner(torch.cat([x, times], dim=1))))
"""


def composed(*overrides):
    with initialize_config_module("alignflow.configs", version_base="1.3"):
        return compose("config", overrides=[*overrides])


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    """A working directory with a module of the user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["alignflow"])
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("my_module", None)
    Path("my_module.py").write_text(MODULE)
    return tmp_path


def edit(folder, **values):
    """Set keys of a run's config, written with _ for a dot after the part."""
    config = OmegaConf.load(folder / "config.yaml")
    for key, value in values.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config))


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- one run at a time ---


def test_a_second_run_in_a_folder_is_told_so_and_touches_nothing(tmp_path):
    folder = pipeline.run(composed(*TINY, "stages=[steer]"), tmp_path / "run")
    before = content(folder)
    with RunFolder(folder).held(), pytest.raises(ConfigError, match="run is in use"):
        pipeline.resume(folder)
    assert content(folder) == before
    pipeline.resume(folder)


def test_a_kill_lets_a_folder_go(tmp_path):
    child = os.fork()
    if not child:
        with RunFolder(tmp_path).held():
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with RunFolder(tmp_path).held():
        pass


def test_a_report_is_written_while_the_folder_is_held(cwd, capsys):
    folder = pipeline.run(composed(*TINY), cwd / "run")
    with RunFolder(folder).held():
        assert main(["report", "run"]) == 0


def test_what_killed_writes_left_goes_at_the_next_run_and_nothing_else_does(tmp_path):
    folder = pipeline.run(composed(*TINY, "stages=[steer]"), tmp_path / "run")
    stage = folder / "stages/steer"
    ours = [stage / ".result.json.17.new", stage / "batches/.00001-a1b2c3_d"]
    ours[0].write_text("{")
    ours[1].mkdir()
    (ours[1] / "tensors.safetensors").write_bytes(b"half")
    theirs = [folder / ".notes.txt", stage / ".mine-a1b2c3_d"]
    theirs[0].write_text("mine")
    theirs[1].mkdir()
    (theirs[1] / "thesis.tex").write_text("mine")
    pipeline.resume(folder)
    assert not any(path.exists() for path in ours) and all(path.exists() for path in theirs)


# --- one config ---


@pytest.mark.parametrize(
    ("edited", "told"),
    [
        ({"strength": 9.0}, "strength was 1.0 and is 9.0: steer, evaluate"),
        ({"seed": 4}, "seed was 0 and is 4: steer, evaluate"),
        ({"evaluation__steps": 3}, "evaluation.steps was 2 and is 3"),
        ({"policy__module__width": 16}, "policy.module.width was 8 and is 16"),
        ({"reward__scale": 2}, "reward.scale was None and is 2"),
    ],
)
def test_a_run_whose_config_was_edited_after_it_began_is_refused(edited, told, tmp_path):
    folder = pipeline.run(composed(*TINY, "stages=[steer, evaluate]"), tmp_path / "run")
    (folder / "stages/evaluate/result.json").unlink()
    edit(folder, **edited)
    before = content(folder)
    with pytest.raises(ConfigError) as refused:
        pipeline.resume(folder)
    assert told in str(refused.value) and "new run" in str(refused.value)
    assert content(folder) == before


def test_a_report_of_an_edited_config_is_refused(cwd, capsys):
    folder = pipeline.run(composed(*TINY), cwd / "run")
    edit(folder, strength=9.0)
    assert main(["report", "run"]) == 1
    assert "strength was 1.0 and is 9.0" in capsys.readouterr().err


def test_what_no_stage_has_used_may_be_edited(tmp_path):
    tuned = ["finetuner=weighted", "finetuner.steps=1", "finetuner.batch_size=4"]
    folder = pipeline.run(
        composed(*TINY, *tuned, "strength=1", "stages=[finetune, steer]"),
        tmp_path / "run",
    )
    edit(folder, stages=["finetune", "steer", "evaluate"], name="another", strength=1)
    pipeline.resume(folder)
    assert (folder / "stages/evaluate/result.json").exists()


def test_a_stage_whose_folder_is_deleted_is_made_by_the_edited_config(tmp_path):
    folder = pipeline.run(composed(*TINY, "stages=[steer]"), tmp_path / "run")
    edit(folder, evaluation__samples=4)
    for path in sorted((folder / "stages/steer").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    pipeline.resume(folder)
    assert json.loads((folder / "stages/steer/result.json").read_text())["n"] == 4


def test_a_folder_from_before_bindings_were_kept_is_resumed_and_reported(cwd):
    folder = pipeline.run(composed(*TINY), cwd / "run")
    for path in [folder / "targets.json", *folder.rglob("depends_on.json")]:
        path.unlink()
    (folder / "stages/evaluate/result.json").unlink()
    assert main(["resume", "run"]) == 0
    assert main(["report", "run"]) == 0


def test_counts_given_as_floats_are_whole_numbers():
    config = pipeline.check_config(composed(*TINY, "evaluation.samples=6.0", "steerer.steps=2.0"))
    assert (config.evaluation.samples, config.steerer.steps) == (6, 2)
    assert type(config.evaluation.samples) is type(config.steerer.steps) is int


# --- code of its own ---


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "evil.reward"},
        {"_target_": "alignflow.reward_module.Sum", "terms": {"a": [{"_target_": "evil.r"}, 1]}},
        {"_target_": "hydra.utils.get_object", "path": "evil.reward"},
        {"_target_": "${oc.decode:evil.reward}"},
        "${oc.create:'{_target_: evil.reward}'}",
    ],
    ids=str,
)
def test_resume_imports_nothing_that_the_run_did_not_record(node, cwd):
    folder = pipeline.run(composed(*TINY, "stages=[steer]"), cwd / "run")
    Path("evil.py").write_text("raise SystemExit('imported')")
    (folder / "stages/steer/result.json").unlink()
    edit(folder, reward=node)
    with pytest.raises(ConfigError, match=r"not recorded as its own.*evil(.|\n)*--trust-config"):
        pipeline.resume(folder)
    assert "evil" not in sys.modules


def test_a_folder_without_a_record_may_name_what_the_package_s_configs_name(cwd):
    own = ["reward=custom", "reward._target_=my_module.slow"]
    folder = pipeline.run(composed(*TINY, *own, "stages=[steer]"), cwd / "run")
    (folder / "targets.json").unlink()
    with pytest.raises(ConfigError, match="my_module.slow"):
        pipeline.resume(folder)
    assert pipeline.resume(folder, trust_config=True) == folder


def test_code_that_is_not_recorded_runs_if_it_is_trusted(cwd, capsys):
    folder = pipeline.run(composed(*TINY, "stages=[steer]"), cwd / "run")
    edit(folder, reward={"_target_": "my_module.slow"})
    assert main(["resume", "run"]) == 1
    assert main(["resume", "run", "--trust-config"]) == 1
    told = capsys.readouterr().err.split("error: ")
    assert "--trust-config" in told[1]
    # trusted, it is still another reward than that of the samples
    assert "reward._target_ was" in told[2]


# --- networks of one's own ---

OWN = [
    "policy=custom",
    "policy.module._target_=my_module.Net",
    "policy.event_shape=[2]",
    "reward=ring",
    "data=ring",
    "training=default",
    "training.steps=2",
    "training.batch_size=4",
    "steerer=importance",
    "steerer.steps=1",
    "finetuner=weighted",
    "finetuner.steps=2",
    "finetuner.batch_size=4",
    "strength=1",
    "++finetuner.pool=8",
    "evaluation={samples: 4, base_samples: 4, steps: 1, batch_size: 4, weighed: 0}",
    "stages=[pretrain, finetune, steer, evaluate]",
]


def test_a_network_of_one_s_own_is_trained_tuned_judged_and_resumed_without_more_keys(cwd):
    assert main(["run", *OWN, "policy.module.hidden=6", "hydra.run.dir=run"]) == 0
    samples, _ = load_folder("run/stages/evaluate/samples")
    for stage in ("steer", "evaluate"):
        Path(f"run/stages/{stage}/result.json").unlink()
    assert main(["resume", "run"]) == 0
    again, _ = load_folder("run/stages/evaluate/samples")
    assert samples.keys() == again.keys()
    assert all(torch.equal(samples[name], again[name]) for name in samples)
    tensors, facts = load_folder("run/stages/pretrain/model")
    assert facts["network"] is None and tensors["inner.weight"].shape == (6, 4)


def test_a_target_of_one_s_own_takes_nothing_over_from_the_one_it_replaces(cwd, capsys):
    own = ["policy.module._target_=my_module.Net", "policy.module.hidden=6"]
    arguments = ["run", "experiment=train_ring", *own, "--cfg", "job", "-p", "policy.module"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out.splitlines()[1:]
    assert sorted(filter(None, shown)) == ["_target_: my_module.Net", "hidden: 6"]


def test_a_network_learns_as_many_classes_as_the_folder_of_its_data_has(cwd):
    from PIL import Image

    for name in ("cats", "dogs", "owls"):
        Path("data", name).mkdir(parents=True)
        Image.new("RGB", (8, 8), "gray").save(f"data/{name}/a.png")
    config = composed(
        "policy=unet",
        "policy.event_shape=[3,8,8]",
        "policy.module.widths=[32]",
        "policy.module.attention=[false]",
        "data=folder",
        "data.path=data",
        "data.size=8",
        *[word for word in OWN if word.startswith("training")],
        "stages=[pretrain]",
    )
    folder = pipeline.run(config, cwd / "run")
    assert load_folder(folder / "stages/pretrain/model")[1]["arguments"]["classes"] == 3
    assert "classes: 3" in (folder / "config.yaml").read_text()
    assert pipeline.run(config, cwd / "run") == folder


# --- interruption ---


@pytest.fixture
def interrupted(cwd, capsys, monkeypatch):
    """A call of (overrides, signal): a run that sends it to itself; its status and its words."""
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, default) for number, default in defaults.items()}

    def call(overrides, stop):
        monkeypatch.setenv("STOP", stop.name)
        status = main(["run", *overrides, "hydra.run.dir=run"])
        assert "STOP" not in os.environ
        return status, capsys.readouterr().err

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


TRAINING = [
    "policy=mlp",
    "policy.module.width=8",
    "policy.module.depth=1",
    "data=ring",
    "data._target_=my_data.Points",
    "training=default",
    "training.steps=30",
    "training.batch_size=4",
    "training.checkpoint_every=10",
    "stages=[pretrain]",
]
DATA = """
import os, signal, torch

class Points:
    drawn = 0
    def sample(self, n, generator=None):
        self.drawn += 1
        if self.drawn == 17 and "STOP" in os.environ:
            os.kill(os.getpid(), getattr(signal, os.environ.pop("STOP")))
        return torch.randn((n, 2), generator=generator)
"""


@pytest.mark.parametrize(("stop", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_a_training_ends_it_where_it_can_go_on(stop, status, cwd, interrupted):
    sys.modules.pop("my_data", None)
    Path("my_data.py").write_text(DATA)
    ended, said = interrupted(TRAINING, stop)
    assert ended == status and "Traceback" not in said
    assert "pretrain was stopped. What was done is kept: `alignflow resume run`" in said
    resumed = pipeline.resume(cwd / "run")
    unbroken = pipeline.run(composed(*TRAINING), cwd / "unbroken")
    ours, theirs = (load_folder(run / "stages/pretrain/model")[0] for run in (resumed, unbroken))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(("stop", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_a_reward_s_call_keeps_what_was_drawn_and_says_how_to_go_on(
    stop, status, cwd, interrupted
):
    own = ["stages=[steer]", "reward=custom", "reward._target_=my_module.slow"]
    folder = cwd / "run"
    first = folder / "stages/steer/batches/00000"
    ended, said = interrupted([*TINY, *own], stop)
    assert ended == status and "Traceback" not in said
    assert "`alignflow resume run`" in said
    kept = content(first)
    pipeline.resume(folder)
    assert content(first) == kept
    unbroken = pipeline.run(composed(*TINY, *own), cwd / "unbroken")
    for batch in sorted((folder / "stages/steer/batches").iterdir()):
        ours, theirs = (
            load_folder(run / "stages/steer/batches" / batch.name)[0] for run in (folder, unbroken)
        )
        assert torch.equal(ours["state"], theirs["state"])


@pytest.mark.parametrize(("stop", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_between_two_stages_says_how_to_go_on(stop, status, cwd, monkeypatch, interrupted):
    finish = RunFolder.finish

    def finish_and_end(kept, stage, result):
        finish(kept, stage, result)
        os.kill(os.getpid(), getattr(signal, os.environ.pop("STOP")))

    monkeypatch.setattr(RunFolder, "finish", finish_and_end)
    ended, said = interrupted([*TINY, "stages=[steer, evaluate]"], stop)
    assert ended == status and "Traceback" not in said
    assert "the run was stopped. What was done is kept: `alignflow resume run`" in said
    assert not Path("run/stages/evaluate").exists()


@pytest.mark.parametrize("steps", [1, 4, 5, 7])
def test_a_tuning_that_is_cut_counts_each_call_of_its_reward_once(steps, cwd, monkeypatch):
    tuned = ["finetuner=weighted", "finetuner.steps=8", "finetuner.batch_size=4"]
    tuned += ["++finetuner.pool=8", "++finetuner.annealing_stages=2", "++finetuner.recentering=3"]
    tuned += ["++finetuner.checkpoint_every=2", "stages=[finetune]"]
    config = composed(*TINY[:4], *tuned)
    whole = pipeline.run(config, cwd / "whole")
    step, taken = Trainer.train_step, []

    def step_or_die(trainer):
        taken.append(None)
        if len(taken) == steps:
            raise MemoryError("as a kill between two checkpoints")
        return step(trainer)

    monkeypatch.setattr(Trainer, "train_step", step_or_die)
    with pytest.raises(MemoryError):
        pipeline.run(config, cwd / "cut")
    cut = pipeline.resume(cwd / "cut")
    counts = [
        {name: getattr(found, name) for name in ("reward_calls", "reward_vjps")}
        for found in (RunFolder(folder).result("finetune") for folder in (whole, cut))
    ]
    assert counts[0] == counts[1] and counts[0]["reward_calls"] > 0


# --- the end of a run ---


def test_a_run_ends_with_its_results_and_the_next_commands(cwd, capsys):
    tuned = ["finetuner=weighted", "finetuner.steps=1", "finetuner.batch_size=4"]
    words = [*TINY, *tuned, "strength=1", "judge=ring"]
    stages = "stages=[finetune, steer, evaluate, report]"
    assert main(["run", *words, stages, "hydra.run.dir=run"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in shown)
    rows = ["base", "steered: importance", "tuned: weighted", "exact tilt"]
    assert [line.strip().split("  ")[0] for line in shown[2:6]] == rows
    said = " ".join(line.strip() for line in shown[6:-3])
    for name in rows[1:3]:
        assert f"{name}: Whether it reached the tilt of strength 1 cannot be told: the 8" in said
    assert shown[-3:] == [
        "report: run/report.html",
        "load: alignflow.load('run/stages/finetune/model')",
        "sample: alignflow sample run/stages/finetune/model",
    ]
    words = shown[-1].split()[2:]
    assert main(words) == 0


def test_a_damaged_config_is_told_with_its_path(cwd, capsys):
    Path("run").mkdir()
    Path("run/config.yaml").write_text("a: [1")
    assert main(["resume", "run"]) == 1
    assert "error: run/config.yaml cannot be read" in capsys.readouterr().err


def test_a_judge_that_answers_nan_is_refused(cwd):
    Path("my_judge.py").write_text(
        "import torch\n"
        "class Judge(torch.nn.Module):\n"
        "    labels, exclusive = ('left', 'right'), True\n"
        "    def features(self, points):\n"
        "        return points\n"
        "    def forward(self, points):\n"
        "        return points / 0 * 0\n"
    )
    config = composed(*TINY, "+judge._target_=my_judge.Judge", "stages=[steer, evaluate]")
    with pytest.raises(ConfigError, match="judge answers NaN"):
        pipeline.run(config, cwd / "run")


def test_samples_that_a_reward_drops_are_counted_and_no_part_of_its_mean(cwd):
    Path("my_module.py").write_text(
        "import torch\n"
        "import alignflow as af\n"
        "@af.reward(on_invalid='drop')\n"
        "def right(points):\n"
        "    return torch.where(points[:, 0] > -1, points[:, 0], torch.nan)\n"
    )
    own = ["reward=custom", "reward._target_=my_module.right", "judge=ring"]
    sizes = "evaluation={samples: 12, base_samples: 12, steps: 1, batch_size: 4, weighed: 0}"
    config = composed(*TINY, *own, sizes, "stages=[steer, evaluate, report]")
    folder = pipeline.run(config, cwd / "run")
    for path in folder.rglob("*.json*"):
        assert "NaN" not in path.read_text() and "Infinity" not in path.read_text()
    base, steered = json.loads((folder / "stages/evaluate/result.json").read_text())["models"]
    assert base["dropped"] > 0 and min(base["rewards"]) > -1
    for model in (base, steered):
        assert model["dropped"] + len(model["rewards"]) == 12
        assert model["mean_reward"][0] == pytest.approx(
            sum(model["rewards"]) / len(model["rewards"])
        )


def test_a_number_that_is_none_is_null_in_the_metrics_of_a_run(tmp_path):
    RunFolder(tmp_path).log("steer", 0, seconds=float("nan"), loss=1.0)
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line == {"step": 0, "stage": "steer", "seconds": None, "loss": 1.0}
