"""The steerer `auto` in a run: what it chose is told, kept, and taken again."""

import json

import pytest
from hydra import compose, initialize_config_module

from alignflow import pipeline
from alignflow.checkpoint import load_folder

RING = [
    "policy=ring",
    "policy._target_=alignflow.targets.ring",
    "~policy.name",
    "reward=ring",
    "steerer=auto",
    "steerer.budget=8",
    "steerer.jumps=1",
    "steerer.samples=64",
    "evaluation={samples: 6, base_samples: 8, steps: 1, batch_size: 4}",
]


def composed(*overrides):
    with initialize_config_module("alignflow.configs", version_base="1.3"):
        return compose("config", overrides=[*RING, *overrides])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return pipeline.run(composed(), tmp_path_factory.mktemp("auto") / "run")


def content(folder, name):
    return json.loads((folder / "stages" / name).read_text())


def test_the_choice_is_kept_with_its_reasons_and_names_the_model(finished):
    advice = content(finished, "steer/advice.json")
    method = advice["choice"]["method"]
    assert method in advice["verdict"] and method in {row["method"] for row in advice["rows"]}
    assert content(finished, "steer/result.json")["method"] == f"auto ({method})"
    models = content(finished, "evaluate/result.json")["models"]
    assert [model["name"] for model in models] == ["base", f"steered: auto ({method})"]
    assert f"auto ({method})" in (finished / "report.html").read_text("utf-8")


def test_the_choice_and_its_reasons_are_printed(tmp_path, capsys):
    folder = pipeline.run(composed("stages=[steer]"), tmp_path / "run")
    shown = " ".join(capsys.readouterr().err.split())
    assert content(folder, "steer/advice.json")["verdict"] in shown and "importance" in shown


def test_a_run_that_was_cut_goes_on_with_its_choice(tmp_path):
    folder = pipeline.run(composed("stages=[steer]"), tmp_path / "run")
    drawn = folder / "stages/steer/batches"
    first = load_folder(drawn / "00000")[0]["state"]
    path = folder / "stages/steer/advice.json"
    advice = json.loads(path.read_text())
    # what stands in the folder is taken, and not chosen anew
    other = {"method": "best_of_n", "steps": 1, "particles": 2}
    path.write_text(json.dumps(advice | {"choice": other}))
    (folder / "stages/steer/result.json").unlink()
    pipeline.resume(folder)
    assert content(folder, "steer/result.json")["method"] == "auto (best_of_n)"
    assert (load_folder(drawn / "00000")[0]["state"] == first).all()


def test_a_learned_value_is_offered_to_the_pilot(tmp_path):
    value = [
        "value=default",
        "value.steps=2",
        "value.samples=16",
        "value.batch_size=4",
        "+value.network={_target_: alignflow.policies.MLP, dimension: 2, width: 8}",
    ]
    folder = pipeline.run(composed(*value, "stages=[learn_value, steer]"), tmp_path / "run")
    methods = {row["method"] for row in content(folder, "steer/advice.json")["rows"]}
    assert "value_guidance" in methods


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["steerer.budget=0"], "budget must be"),
        (["steerer.jumps=16"], "less than a sample of the base"),
        (["strength=0"], "strength must be above 0"),
        (["condition=[1, 2]"], "condition must be one for all samples"),
        (["steerer.steps=3"], "'auto' does not take steps"),
        (["steerer.tolerance=2"], "tolerance must be"),
    ],
    ids=str,
)
def test_what_cannot_be_advised_on_is_refused_before_it_runs(overrides, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pipeline.run(composed(*overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()
