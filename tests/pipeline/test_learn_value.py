"""The stage that learns a value: what it writes, who takes it, and what is refused."""

import pytest
from hydra import compose, initialize_config_module

import alignflow as af
from alignflow import pipeline
from alignflow.pipeline import ConfigError
from alignflow.results import STAGES, read

RING = [
    "policy=ring",
    "policy._target_=alignflow.targets.ring",
    "~policy.name",
    "reward=ring",
    "evaluation={samples: 6, base_samples: 8, steps: 2, batch_size: 4}",
    "stages=[learn_value, steer, evaluate, report]",
]
VALUE = [
    "value=default",
    "value.steps=2",
    "value.samples=16",
    "value.batch_size=4",
    "+value.network={_target_: alignflow.policies.MLP, dimension: 2, width: 8}",
]


def composed(*overrides, value=VALUE):
    with initialize_config_module("alignflow.configs", version_base="1.3"):
        return compose("config", overrides=[*RING, *value, *overrides])


@pytest.mark.parametrize("method", ["value_guidance", "fk", "twisted_smc", "best_of_n"])
def test_a_run_learns_a_value_and_steers_by_it(method, tmp_path):
    config = composed(f"steerer={method}", "steerer.steps=2", "strength=1.5")
    folder = pipeline.run(config, tmp_path / "run")
    result = read(folder / "stages/learn_value/result.json", STAGES["learn_value"])
    assert (result.steps, result.samples, len(result.calibration)) == (2, 16, 12)
    value = af.load_value(folder / "stages/learn_value/model")
    assert value.strengths == (0.0, 1.5) and value.reward == "ring"
    assert "Learned" in (folder / "stages/steer/graph.txt").read_text()
    # steering is done anew by the value that was learned
    for file in (folder / "stages/steer").glob("result.json"):
        file.unlink()
    pipeline.resume(folder)
    assert (folder / "report.html").exists()


def test_a_saved_value_is_given_to_the_steerer(tmp_path):
    target, reward = af.targets.ring(), af.targets.ring_reward()
    network = af.policies.MLP(2, width=8)
    value = af.learn_value(target, reward, steps=1, samples=16, batch_size=4, network=network)
    value.save(tmp_path / "value")
    folder = f"{{_target_: alignflow.policies.load_value, folder: {tmp_path / 'value'}}}"
    config = composed("steerer=value_guidance", "steerer.steps=2", f"steerer.value={folder}",
                      "stages=[steer]", value=())  # fmt: skip
    assert (pipeline.run(config, tmp_path / "run") / "stages/steer/result.json").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["steerer=lookahead"], "'lookahead' does not take value"),
        (["stages=[steer]", "steerer=fk"], "value is set, but none of the stages steer reads it"),
        (["steerer=value_guidance", "value.strengths=[0.0, 0.5]"], "knows strengths from 0 to 0.5"),
        (["steerer=fk", "+value.sample=3"], "learn_value does not take sample"),
        (["steerer=fk", "value.samples=2"], "value.samples must be a whole number of at least 16"),
        (
            ["steerer=fk", "steerer.value={_target_: torch.nn.Identity}"],
            "steerer.value is set, and the stage learn_value learns one: drop one",
        ),
    ],
    ids=str,
)
def test_what_would_do_nothing_or_cannot_be_is_refused_before_it_runs(overrides, message, tmp_path):
    with pytest.raises((ConfigError, ValueError), match=message):
        pipeline.run(composed(*overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_stage_without_its_part_and_a_steerer_without_its_value_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="stage learn_value needs value: choose one, value=NAME"):
        pipeline.run(composed("steerer=fk", value=()), tmp_path / "run")
    config = composed("steerer=value_guidance", "stages=[steer]", value=())
    with pytest.raises(ValueError, match="a learned value must be given"):
        pipeline.run(config, tmp_path / "run")
