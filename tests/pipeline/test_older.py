"""Run folders of earlier versions are read in the words of this one."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from alignflow import pipeline
from alignflow.cli import main
from alignflow.overrides import with_one_strength as words_with_one_strength
from alignflow.pipeline import ConfigError
from alignflow.pipeline.bindings import bind, check_bindings, check_unmixed, modernized_bindings
from alignflow.pipeline.checks import check_config
from alignflow.pipeline.folder import RunFolder
from alignflow.pipeline.older import TARGETS, modernized, with_one_strength
from alignflow.pipeline.targets import shipped_targets
from alignflow.results import EvaluationResult, SteerResult

EARLIER = Path(__file__).parent / "earlier"


@pytest.fixture
def earlier(tmp_path):
    """A run folder as the version before results had one left it, steered and evaluated."""
    return shutil.copytree(EARLIER, tmp_path / "run")


def test_targets_that_moved_are_found_where_they_are_now(tmp_path):
    config = {"data": {"_target_": "alignflow.targets.avatars", "n": 8}, "strength": 2.0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "targets.json").write_text('["alignflow.targets.avatars"]')
    folder = RunFolder(tmp_path)
    assert folder.config() == config | {"data": {"_target_": "alignflow.data.avatars", "n": 8}}
    assert folder.targets() == {"alignflow.data.avatars"}
    assert (tmp_path / "config.yaml").read_text() == yaml.safe_dump(config)


def test_what_this_version_ships_is_left_as_it_is():
    targets = shipped_targets()
    assert not set(targets) & set(TARGETS) and modernized(list(targets)) == list(targets)


def test_renamed_keys_are_renamed_in_nodes_of_the_package_alone():
    node = {"_target_": "alignflow.targets.bump_reward", "deviation": 2.0}
    assert modernized(node) == {"_target_": "alignflow.targets.bump_reward", "std": 2.0}
    custom = {"_target_": "my_module.my_reward", "deviation": 2.0}
    assert modernized({"reward": custom}) == {"reward": custom}


def test_the_results_of_an_earlier_run_are_read(earlier):
    folder = RunFolder(earlier)
    steered, evaluated = folder.result("steer"), folder.result("evaluate")
    assert isinstance(steered, SteerResult) and (steered.method, steered.n) == ("importance", 6)
    assert isinstance(evaluated, EvaluationResult) and evaluated.reference is not None
    assert set(evaluated.models[1].distance_to_base) == {"sliced_w2", "frechet_distance"}
    assert evaluated.reference.weighed["base"].ess_fraction == pytest.approx(1, abs=0.01)
    fractions = evaluated.reference.histograms["reward"].fractions
    assert all(sum(each) == pytest.approx(1) for each in fractions.values())


def test_an_earlier_run_that_was_cut_resumes_to_the_same_result(earlier):
    folder = RunFolder(earlier)
    before = folder.result("evaluate")
    shutil.rmtree(earlier / "stages/steer")
    (earlier / "stages/evaluate/result.json").unlink()
    pipeline.resume(earlier)
    after = folder.result("evaluate")
    assert isinstance(before, EvaluationResult) and isinstance(after, EvaluationResult)
    assert (after.strength, after.tilt, after.reference) == (2.0, before.tilt, before.reference)
    for mine, theirs in zip(after.models, before.models, strict=True):
        assert (mine.name, mine.rewards, mine.rates) == (theirs.name, theirs.rewards, theirs.rates)
        assert mine.distance_to_base == theirs.distance_to_base
    assert json.loads((earlier / "stages/evaluate/result.json").read_text())["version"] == 1


def test_an_earlier_run_is_reported(earlier, capsys):
    assert main(["report", str(earlier)]) == 0
    page = (earlier / "report.html").read_text("utf-8")
    assert "At strength 2" in page and "sliced W2" in page and "importance" in page


@pytest.mark.parametrize(
    ("config", "strength"),
    [
        ({"steerer": {"strength": 2.0}}, 2.0),
        ({"steerer": {"strength": 3.0}, "finetuner": {"strength": 3.0, "steps": 1}}, 3.0),
        ({"steerer": None}, 1.0),
        ({"strength": 4.0, "steerer": {}}, 4.0),
    ],
    ids=str,
)
def test_the_strength_of_a_run_stands_once(config, strength):
    found = with_one_strength(config)
    assert found["strength"] == strength
    assert not any("strength" in (found.get(part) or {}) for part in ("steerer", "finetuner"))


def test_methods_at_different_strengths_are_refused():
    config = {"steerer": {"strength": 1.0}, "finetuner": {"strength": 3.0}}
    with pytest.raises(ConfigError, match=r"steerer\.strength=1\.0 and finetuner\.strength=3\.0"):
        with_one_strength(config)


def test_bindings_of_an_earlier_version_are_compared_by_the_present_keys():
    now = {"seed": 0, "strength": 2.0}
    assert modernized_bindings({"seed": 0, "steerer.strength": 2.0}, now) == now
    assert modernized_bindings({"seed": 0, "steerer.strength": 3.0}, now)["strength"] == 3.0
    assert modernized_bindings({"seed": 0}, now) == now
    assert modernized_bindings({"data._target_": "alignflow.targets.digits"}, {}) == {
        "data._target_": "alignflow.data.digits"
    }


def test_a_run_from_before_an_option_came_has_its_default(tmp_path):
    folder = RunFolder(tmp_path)
    config = check_config(pipeline.compose("experiment=ring"))
    folder.begin(config, "")
    bind(folder, config, "finetune")
    path = folder.stage("finetune") / "depends_on.json"
    recorded = json.loads(path.read_text())
    assert recorded.pop("finetuner.warmup") == 100
    path.write_text(json.dumps(recorded))
    held = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert held["finetuner"].pop("warmup") == 100
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(held))
    folder.check_same(config)
    check_bindings(folder, config)
    check_unmixed(tmp_path)
    config.finetuner.warmup = 7
    with pytest.raises(ConfigError, match="holds a run of another config"):
        folder.check_same(config)
    with pytest.raises(ConfigError, match="finetuner.warmup was 100 and is 7"):
        check_bindings(folder, config)


def test_words_of_an_earlier_command_set_the_one_strength_in_their_place():
    words = ["steerer.strength=1,2", "seed=0,1", "finetuner.strength=${steerer.strength}"]
    assert words_with_one_strength(words) == ["strength=1,2", "seed=0,1"]
    assert words_with_one_strength(["seed=1", "strength=2"]) == ["seed=1", "strength=2"]
    with pytest.raises(ValueError, match="must share its strength, which stands once: strength=1"):
        words_with_one_strength(["steerer.strength=1", "+finetuner.strength=2"])
