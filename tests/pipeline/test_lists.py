"""Runs on a list of strings with known weights: the exact tilt, distances to it, texts."""

import json
import math

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf, open_dict

import alignflow as af
from alignflow import pipeline
from alignflow.checkpoint import load_folder
from alignflow.report import build_report

LIST = {
    "_target_": "alignflow.data.Strings.of",
    "strings": ["ab", "b", "abb"],
    "weights": [1, 2, 1],
}
OVERRIDES = [
    *("reward=pattern", "reward.pattern='^ab'", "+reward.name=begins", "strength=1.5"),
    *("steerer=importance", "steerer.steps=1", "steerer.particles=4"),
    "evaluation={samples: 40, base_samples: 60, steps: 1, batch_size: 40}",
]
JUDGE = {
    "_target_": "alignflow.metrics.PropertyJudge",
    "properties": {"begins": {"_target_": "alignflow.rewards.Pattern", "pattern": "^ab"}},
}


def run(folder, *overrides):
    with initialize_config_module("alignflow.configs", version_base="1.3"):
        config = compose("config", overrides=[*OVERRIDES, *overrides])
    with open_dict(config):
        config.policy = OmegaConf.create(
            {"_target_": "alignflow.targets.Sequences", "strings": LIST}
        )
        config.judge = OmegaConf.create(JUDGE)
        reference = {"_target_": "alignflow.targets.TiltedStrings", "_partial_": True}
        config.reference = OmegaConf.create(reference | {"strings": LIST})
    return pipeline.run(config, folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "list")


def test_the_tilt_of_a_list_is_exact(finished):
    found = json.loads((finished / "stages/evaluate/result.json").read_text())
    weight = math.exp(1.5) / (1 + math.exp(1.5))  # half of the weight begins so
    assert found["tilt"]["rates"]["begins"] == pytest.approx([weight] * 3)
    assert found["tilt"]["mean_reward"] == pytest.approx([weight, 0])
    assert found["tilt"]["ess"] is None


def test_a_model_is_compared_with_the_exact_numbers_of_the_list(finished):
    base, steered = json.loads((finished / "stages/evaluate/result.json").read_text())["models"]
    check = steered["tilt_check"]
    weight = math.exp(1.5) / (1 + math.exp(1.5))
    assert check["numbers"]["reward"]["tilt"] == pytest.approx([weight, 0])
    assert check["base_ess"] is None and check["mmd"] is not None and check["reached"] is not None
    assert base["tilt_check"] is None


def test_each_model_has_its_distance_to_the_tilted_list(finished):
    found = json.loads((finished / "stages/evaluate/result.json").read_text())["reference"]
    distances = found["distances"]
    assert set(distances) == {"reference", "base", "steered: importance"}
    assert all(row["off_list"] == [0, 0] for row in distances.values())
    base, best = (distances[name]["total_variation"][0] for name in ("base", "reference"))
    assert best < base < 0.6


def test_texts_are_shown_with_their_rewards(finished):
    found = json.loads((finished / "stages/evaluate/texts.json").read_text())
    assert found["kind"] == "text"
    assert [row["name"] for row in found["shown"]] == ["base", "steered: importance", "reference"]
    for row in found["shown"]:
        assert row["rewards"] == [float(text.startswith("ab")) for text in row["texts"]]
    page = build_report(finished).read_text("utf-8")
    assert "of the whole list, without an error" in page and "<span>abb</span>" in page


@pytest.mark.parametrize(
    ("sampler", "nfe"), [(af.samplers.DenoiserODE(), 6), (af.samplers.TokenDraws(0.5), 3)]
)
def test_models_are_drawn_by_the_sampler_of_the_evaluation(sampler, nfe, tmp_path):
    node = f"alignflow.samplers.{type(sampler).__name__}"
    node = ", ".join([f"_target_: {node}", *(f"{k}: {v}" for k, v in vars(sampler).items())])
    options = f"evaluation.sampler={{{node}}}", "evaluation.steps=3"
    folder = run(tmp_path / "run", *options, "stages=[steer, evaluate]")
    drawn = load_folder(folder / "stages/evaluate/base/00000")[0]
    policy = af.targets.Sequences(["ab", "b", "abb"], [1, 2, 1])
    # as the run draws its first batch
    generator = torch.Generator().manual_seed(1_000_003)
    states = policy.sample(40, steps=3, sampler=sampler, generator=generator)
    torch.testing.assert_close(drawn["state"], states)
    assert (drawn["nfe"] == nfe).all()
    config = OmegaConf.load(folder / "config.yaml")
    assert config.evaluation.sampler._target_.endswith(type(sampler).__name__)
    assert pipeline.resume(folder) == folder
