"""Every YAML that is shipped composes, makes what it names, and runs: so none of them rots."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import alignflow as af
import alignflow.configs
from alignflow import pipeline
from alignflow.finetuning import METHODS
from alignflow.policies import MLP, FlowMapPolicy, TokenMLP, shipped
from alignflow.targets import ring, ring_reward

CONFIGS = Path(alignflow.configs.__file__).parent
FILES = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
GROUPED = [str(path.with_suffix("")) for path in FILES if len(path.parts) == 2]
SHIPPED_POLICIES = {"avatars", "avatars_posterior", "digits", "glyphs", "ring"}
# what is made for the data of a run
OF_DATA = {"policy/token_dit", "policy/token_mlp", "training/text"}
# what every experiment shrinks to
TINY = {
    "training": ["training.steps=1", "training.batch_size=4"],
    "finetuner": ["finetuner.steps=1", "finetuner.batch_size=4"],
    "steerer": ["steerer.steps=2"],
    "evaluation": ["evaluation={samples: 4, base_samples: 4, steps: 1, batch_size: 4}"],
}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def composed(*overrides, base="config"):
    with initialize_config_module("alignflow.configs", version_base="1.3"):
        return compose(base, overrides=[*overrides])


def base_of(name):
    """The config that a group belongs to."""
    return "benchmark" if name.startswith("suite/") else "config"


def data_of(name):
    """What it is composed with."""
    return ["data=names"] if name in OF_DATA else []


def names(group):
    return [name.split("/")[1] for name in GROUPED if name.startswith(f"{group}/")]


def require(config):
    """Skip what leans on a shipped file or a program that is not here."""
    model = OmegaConf.select(config, "policy.name")
    if model and model not in shipped():
        pytest.skip(f"the model {model} is not shipped yet")
    judge = OmegaConf.select(config, "judge.name")
    if judge and not (CONFIGS.parent / "policies/shipped/judges" / judge).exists():
        pytest.skip(f"the judge {judge} is not shipped yet")
    if OmegaConf.select(config, "reward._target_") == "alignflow.rewards.Sentiment":
        pytest.importorskip("vaderSentiment")
        pytest.importorskip("tokenizers")
    if OmegaConf.select(config, "reward._target_") == "alignflow.rewards.OCR":
        pytest.importorskip("rapidocr_onnxruntime")


def moved(before, after):
    """Whether a training has changed any parameter."""
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return any(not torch.equal(one, other) for one, other in pairs)


def test_there_are_configs_of_every_kind():
    assert {Path("config.yaml"), Path("benchmark.yaml")} <= {*FILES}
    assert {path.parts[0] for path in FILES if len(path.parts) == 2} == {
        *("data", "experiment", "finetuner", "judge", "policy", "reward", "steerer", "suite"),
        *("training", "value"),
    }


@pytest.mark.parametrize("name", GROUPED)
def test_a_config_composes(name):
    config = composed(name.replace("/", "="), *data_of(name), base=base_of(name))
    assert OmegaConf.to_container(config, resolve=True)


# what a user fills in makes nothing before
@pytest.mark.parametrize("name", [name for name in names("policy") if name != "custom"])
def test_a_policy_config_makes_a_policy_that_samples(name):
    config = composed(f"policy={name}", *data_of(f"policy/{name}"))
    require(config)
    with torch.random.fork_rng(), torch.no_grad():
        policy = pipeline.build(config.policy)
        assert policy.sample(2, steps=1).shape == (2, *policy.event_shape)


@pytest.mark.parametrize("name", names("judge"))
def test_a_judge_config_makes_a_judge(name):
    config = composed(f"judge={name}")
    require(config)
    if name == "molecules":
        pytest.importorskip("rdkit")
    judge = pipeline.build(config.judge)
    samples = {"ring": ring().sample(3), "names": list("abc"), "molecules": ["C", "CO", "CN"]}.get(
        name
    )
    if samples is None:
        samples = torch.rand(3, *judge.event_shape)
    assert judge(samples).shape == (3, len(judge.labels))
    assert judge.features(samples).ndim == 2


@pytest.mark.parametrize("name", names("steerer"))
def test_a_steerer_config_steers(name, generator):
    options = pipeline.build(composed(f"steerer={name}").steerer)
    if name == "value_guidance":
        network = MLP(2, width=8)
        options["value"] = af.learn_value.build(ring(), ring_reward(), network=network).value
    steerer = af.steer(ring(), ring_reward(), **options)
    assert steerer.sample(2, generator=generator)["state"].shape == (2, 2)


@pytest.mark.parametrize("name", names("finetuner"))
def test_a_finetuner_config_takes_a_step(name, generator):
    config = composed(f"finetuner={name}", *TINY["finetuner"])
    policy, reward = FlowMapPolicy(MLP(2, width=8), (2,)), ring_reward()
    if METHODS[name].needs_logits:
        policy = FlowMapPolicy(TokenMLP(2, 3, width=8), (2, 3), "simplex")
        reward = af.reward(lambda states: states[:, 0, 0])
    options = pipeline.build(config.finetuner)
    tuned = af.finetune(policy, reward, generator=generator, **options)
    assert moved(policy, tuned)


@pytest.mark.parametrize("name", names("training"))
def test_a_training_config_takes_a_step(name, generator):
    config = composed(f"training={name}", *data_of(f"training/{name}"), *TINY["training"])
    policy = FlowMapPolicy(MLP(2, width=8), (2,))
    trained = af.pretrain(policy, ring(), generator=generator, **pipeline.build(config.training))
    assert moved(policy, trained)


@pytest.mark.parametrize("name", names("value"))
def test_a_value_config_learns_one(name, generator):
    config = composed(f"value={name}", "value.steps=1", "value.batch_size=4", "value.samples=16")
    policy = FlowMapPolicy(MLP(2, width=8), (2,))
    given = pipeline.build(config.value)
    value = af.learn_value(policy, ring_reward(), generator=generator, **given)
    assert value.strengths == (0.0, config.strength) and value.facts["samples"] == 16


@pytest.mark.parametrize("name", names("experiment"))
def test_an_experiment_runs(name, tmp_path):
    whole = composed(f"experiment={name}")
    require(whole)
    overrides = [*TINY["evaluation"], "precision=fp32", "compile=false"]
    for part in ("training", "finetuner", "steerer"):
        overrides += TINY[part] if whole.get(part) else []
    if "n" in (whole.get("data") or {}):
        overrides.append("data.n=8")
    tuner = whole.get("finetuner") or {}
    if "pool" in tuner or tuner.get("method") == "weighted":
        overrides.append("++finetuner.pool=8")
    if (whole.get("steerer") or {}).get("particles", 0) > 2:
        overrides.append("steerer.particles=2")
    if whole.evaluation.weighed:
        overrides.append("evaluation.weighed=2")
    if whole.get("finetuner") and whole.finetuner.get("recentering"):
        # eight thousand samples to draw and move: built here, and not run
        assert pipeline.build(whole.finetuner)["langevin"].distribution.temperature > 1
        overrides += [
            "finetuner.annealing_stages=1",
            "finetuner.recentering=0",
            "finetuner.langevin=null",
        ]
        overrides.append("++finetuner.pool=8")
    config = composed(f"experiment={name}", *overrides)
    run = pipeline.run(config, tmp_path / name)
    assert all((run / "stages" / stage / "result.json").exists() for stage in config.stages)
