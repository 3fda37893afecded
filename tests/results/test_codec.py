"""Results: what is written is read, and what is damaged is named by its file and key."""

import json
import math

import pytest

from alignflow.metrics import Estimate, Interval
from alignflow.results import (
    STAGES,
    EvaluationResult,
    FinetuneResult,
    ModelResult,
    ReportError,
    SteerResult,
    encode,
    read,
    read_json_lines,
)

MODEL = ModelResult(
    name="base",
    rewards=[0.1, 0.30000000000000004, -2e-17],
    mean_reward=Estimate(0.2, 0.01),
    rates={"left.right": Interval(0.0, 0.0, 0.3)},
    distance_to_base={"sliced_w2": Estimate(0.5, 0.1)},
)


def test_what_is_written_is_read_to_the_last_bit(tmp_path):
    result = EvaluationResult(models=[MODEL], reward_name="r", strength=1 / 3, event="points")
    file = tmp_path / "result.json"
    file.write_text(encode(result))
    assert read(file, EvaluationResult) == result
    assert json.loads(file.read_text())["models"][0]["mean_reward"] == [0.2, 0.01]


def test_every_stage_has_a_result_with_the_version():
    assert all(kind.__struct_fields__[0] == "version" for kind in STAGES.values())
    assert json.loads(encode(SteerResult(method="a", n=1, mean_reward=0.0, seconds=1.0)))["version"]


def test_a_result_of_a_later_version_is_told_as_that(tmp_path):
    (tmp_path / "result.json").write_text('{"version": 99}')
    with pytest.raises(ReportError, match=r"result\.json is of version 99, .* reads 1 at most"):
        read(tmp_path / "result.json", SteerResult)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 1.5}, "steps must be a whole number, got 1.5"),
        ({"steps": True}, "steps must be a whole number, got True"),
        ({"seconds": math.inf}, "seconds must be a finite number, got inf"),
        ({"seconds": None}, "seconds must be a finite number, got None"),
        ({"version": "one"}, "version must be a whole number, got 'one'"),
    ],
    ids=str,
)
def test_a_value_of_another_kind_is_named_by_its_key(tmp_path, change, message):
    whole = {"steps": 1, "seconds": 2.0, "reward_calls": 3, "reward_vjps": 0}
    (tmp_path / "result.json").write_text(json.dumps(whole | change))
    with pytest.raises(ReportError, match=rf"result\.json: {message}"):
        read(tmp_path / "result.json", FinetuneResult)


def test_what_is_no_object_or_lacks_a_key_is_told_as_that(tmp_path):
    whole = {"steps": 1, "seconds": 2.0, "reward_vjps": 0}
    (tmp_path / "result.json").write_text(json.dumps([whole]))
    with pytest.raises(ReportError, match="the file must be an object"):
        read(tmp_path / "result.json", FinetuneResult)
    (tmp_path / "result.json").write_text(json.dumps(whole))
    with pytest.raises(ReportError, match="has no 'reward_calls'"):
        read(tmp_path / "result.json", FinetuneResult)


def test_an_interval_holds_its_value():
    with pytest.raises(ValueError, match="must lie in its interval"):
        Interval(0.5, 0.6, 0.7)
    assert Estimate(1.0, 0.5).interval == Interval(1.0, 1.0 - 0.98, 1.0 + 0.98)


def test_half_a_last_line_is_passed_over(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"ste')
    assert list(read_json_lines(file)) == [("line 1", {"step": 1})]
