"""Lines of metrics and TensorBoard's scalars: each once, all of them JSON."""

import json
import math

import pytest
import torch

from alignflow.report.run_folder import _curves
from alignflow.training.log import MetricsLog


def scalars(folder):
    """(step, value) by name, as TensorBoard shows them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder / "tensorboard"), {"scalars": 0})
    found.Reload()
    return {n: [(e.step, e.value) for e in found.Scalars(n)] for n in found.Tags()["scalars"]}


def write(folder, begin, end, evaluated=True, judge=()):
    """What a run from a checkpoint writes up to a kill: a line a step, evaluations before it."""
    with MetricsLog(folder, begin, evaluated) as log:
        for step in range(begin, end + 1):
            if step > begin:
                log(step, {"loss": step / 4, "seconds_per_step": 0.5})
            if step in judge:
                log(step, {"reward": step * 1.0})


def test_a_run_that_goes_on_from_a_checkpoint_tells_nothing_twice(tmp_path):
    write(tmp_path, 0, 7, judge=[4])  # the checkpoint is of step 4
    write(tmp_path, 4, 9, judge=[8])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [*range(1, 10)]
    assert [line["step"] for line in lines if "reward" in line] == [4, 8]
    drawn = scalars(tmp_path)
    assert drawn["loss"] == [(step, step / 4) for step in range(1, 10)]
    assert drawn["reward"] == [(4, 4.0), (8, 8.0)]


def test_an_evaluation_that_does_not_stand_is_told_once(tmp_path):
    write(tmp_path, 0, 4, judge=[4])
    write(tmp_path, 4, 6, evaluated=False, judge=[4])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "reward" in line] == [4]
    assert [line["step"] for line in lines if "loss" in line] == [*range(1, 7)]
    assert scalars(tmp_path)["reward"] == [(4, 4.0)]
    assert scalars(tmp_path)["loss"] == [(step, step / 4) for step in range(1, 7)]


def test_what_a_kill_left_of_a_last_line_goes(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 1.0}\n[2]\n{"step": "2"}\n{"step": 2}')
    write(tmp_path, 2, 2)
    assert path.read_text() == '{"step": 1, "loss": 1.0}\n'
    assert [file.name for file in tmp_path.glob("*metrics*")] == ["metrics.jsonl"]


def test_numbers_that_are_not_finite_are_null_and_each_line_is_json(tmp_path):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    metrics = {"a": math.nan, "b": torch.tensor(-math.inf), "c": torch.tensor(2), "d": 1.5}
    with MetricsLog(tmp_path, 0, True) as log:
        log(1, metrics)
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=refuse) == {
        "step": 1,
        "a": None,
        "b": None,
        "c": 2,
        "d": 1.5,
    }


def test_a_report_draws_no_point_where_a_number_was_not_finite(tmp_path):
    with MetricsLog(tmp_path, 0, True) as log:
        for step, loss in enumerate([2.0, math.nan, 1.0], start=1):
            log(step, {"loss": loss})
    assert _curves(tmp_path)["run"]["loss"] == ([1, 3], [2.0, 1.0])


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with MetricsLog(None, 0, True) as log:
        log(1, {"loss": 1.0})
        log.flush()
    assert not list(tmp_path.iterdir())
