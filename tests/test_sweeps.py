"""Sweeps: their report, and how they go on when they were cut."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from alignflow import pipeline
from alignflow.cli import main

TINY = [
    "policy=mlp",
    "policy.module.width=8",
    "reward=ring",
    "steerer=lookahead",
    "steerer.steps=2",
    "evaluation={samples: 4, base_samples: 4, steps: 1, batch_size: 4, weighed: 0}",
    "stages=[steer, evaluate]",
    "hydra.sweep.dir=my sweep",
    "--multirun",
]
SWEEP = Path("my sweep")


@pytest.fixture
def cwd(cwd):
    """A working directory with a user's rewards."""
    Path("my_module.py").write_text(
        "def left(points):\n    return -points[:, 0]\ndef right(points):\n    return points[:, 0]\n"
    )
    return cwd


def results():
    return {path: path.read_text() for path in sorted(SWEEP.glob("*/stages/*/result.json"))}


def test_a_sweep_writes_its_report_and_goes_on_where_it_was_cut(cwd, capsys):
    # where runs and sweeps lie is no code
    assert main(["run", *TINY, "hydra.run.dir=elsewhere", "strength=1,2"]) == 0
    assert "report: my sweep/report.html" in capsys.readouterr().out
    whole = results()
    assert len(whole) == 4
    (SWEEP / "report.html").unlink()
    (SWEEP / "0/stages/evaluate/result.json").unlink()
    shutil.rmtree(SWEEP / "1")
    half = SWEEP / ".targets.json.17.new"
    half.write_text("[")
    assert main(["resume", str(SWEEP)]) == 0
    assert not half.exists()
    assert results().keys() == whole.keys() and (SWEEP / "report.html").exists()
    left = SWEEP / "0/stages/steer/result.json"
    assert left.read_text() == whole[left]
    assert "strength=2" in (SWEEP / "1/command.txt").read_text()


def test_a_signal_between_the_runs_of_a_sweep_says_how_to_go_on(cwd, capsys, monkeypatch):
    run, done = pipeline.run, []

    def run_and_end(*arguments):
        done.append(run(*arguments))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(pipeline, "run", run_and_end)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        assert main(["run", *TINY, "seed=0,1"]) == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(done) == 1
    assert "kept: `alignflow resume my sweep`" in capsys.readouterr().err


def test_a_run_that_fails_does_not_keep_the_others_of_its_sweep(cwd, capsys):
    assert main(["run", *TINY, "seed=0,1.5,2"]) == 1
    assert "seed must be a whole number" in capsys.readouterr().err
    assert sorted(path.name for path in SWEEP.iterdir() if path.is_dir()) == ["0", "2"]


def test_a_sweep_whose_rewards_differ_ends_without_a_report_of_it(cwd, capsys):
    rewards = "reward._target_=my_module.left,my_module.right"
    assert main(["run", *TINY[:2], *TINY[3:], "steerer=best_of_n", rewards]) == 0
    assert "must share their reward" in capsys.readouterr().out


def test_a_resumed_sweep_runs_no_code_that_was_not_recorded(cwd, capsys):
    rewards = "reward._target_=my_module.left,my_module.right"
    words = [*TINY[:2], *TINY[4:], "steerer=best_of_n"]
    assert main(["run", *words, rewards]) == 0
    shutil.rmtree(SWEEP / "1")
    assert main(["resume", str(SWEEP)]) == 0
    command = SWEEP / "command.txt"
    written = command.read_text()
    shutil.rmtree(SWEEP / "1")
    command.write_text(written.replace("my_module.right", "evil.right"))
    Path("evil.py").write_text("raise SystemExit('imported')")
    assert main(["resume", str(SWEEP)]) == 1
    assert "not recorded as its own when it began: evil.right" in capsys.readouterr().err
    command.write_text(
        written.replace("--multirun", "--multirun hydra.callbacks.a._target_=evil.a")
    )
    assert main(["resume", str(SWEEP)]) == 1
    assert "sets hydra.callbacks.a._target_=evil.a" in capsys.readouterr().err
    assert "evil" not in sys.modules
