"""Strings in benchmarks: exact methods are at the floor of total variation, others are not."""

import math

import pytest
import torch
from hydra import compose, initialize_config_module

import alignflow as af
from alignflow.benchmark import Case, ExactLogits, Results, Truth, build_suite, measure
from alignflow.benchmark.results import FLOOR, Key
from alignflow.benchmark.tables import markdown
from alignflow.data import Vocabulary
from alignflow.policies import FlowMapPolicy
from alignflow.rewards import Letters, TokenCount
from alignflow.targets import Sequences
from alignflow.tilt import Tilt

LETTERS = Vocabulary(["a", "b", "c"])
SAMPLES = 512


@pytest.fixture(scope="module")
def truths():
    target = Sequences.random(2, LETTERS, seed=0, std=1.5)
    rewards = {"black box": Letters("a"), "differentiable": TokenCount(LETTERS, "a")}
    return {
        kind: Truth(Case(kind, target, target, Tilt(reward, 1.5), SAMPLES))
        for kind, reward in rewards.items()
    }


def bound(truth):
    """Twice the mean total variation of 512 exact samples, and five of its standard deviations."""
    found = [truth.distances(truth.sample(SAMPLES, seed), 0) for seed in range(30)]
    distances = torch.tensor([each["total_variation"] for each in found])
    return (2 * distances.mean() + 5 * distances.std()).item()


FREE = {
    "exact": {"method": "exact", "draws": 32, "steps": 16},
    "mfm_gf": {"method": "mfm_gf", "posterior": "exact", "draws": 32, "steps": 16},
    "glass": {"method": "glass", "draws": 8, "steps": 8},
    "fk": {"method": "fk", "particles": "all", "steps": 32},
    "diamond_smc": {"method": "diamond_smc", "particles": "all", "draws": 8, "steps": 8},
    "importance": {"method": "importance", "particles": "all", "steps": 1},
}
GUIDED = {
    "twisted_smc": {"method": "twisted_smc", "particles": "all", "steps": 32},
    "fmtt, no noise": {"method": "fmtt", "particles": "all", "steps": 8, "noise": 0.0},
}


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        *(("black box", name) for name in FREE),
        *(("differentiable", name) for name in FREE | GUIDED),
    ],
)
def test_a_consistent_steerer_is_at_the_floor(truths, kind, method):
    """Of 512 strings."""
    found = measure(truths[kind], (FREE | GUIDED)[method], seed=0)
    assert found["total_variation"] < bound(truths[kind])


@pytest.mark.parametrize("method", ["best_of_n", "lookahead"])
def test_a_steerer_that_does_not_aim_at_the_tilt_is_not(truths, method):
    truth = truths["differentiable"]
    found = measure(truth, {"method": method, "steps": 2}, seed=0)
    assert found["total_variation"] > bound(truth)


def test_of_strings_nothing_else_is_measured_and_the_page_is_in_units_of_the_floor(
    truths, tmp_path
):
    truth, results = truths["black box"], Results(tmp_path / "results.jsonl")
    floor = measure(truth, None, seed=0)
    assert set(floor) == {"total_variation", "reward", "reward_error"}
    assert truth.diverged.keys() == floor.keys()
    assert truth.mean_reward == pytest.approx(floor["reward"], abs=5 * 0.5 / SAMPLES**0.5)
    far = {name: 3 * value for name, value in floor.items()}
    for name, values in ((FLOOR, floor), ("far", far)):
        results.add(Key("a", SAMPLES, name, 0), values)
    text = markdown(results.rows())
    assert "| method | total variation / floor | reward error / floor |" in text
    assert "| far | 3.00 |" in text
    assert math.isnan(truth.diverged["total_variation"])


def test_a_case_may_name_what_is_measured_on_it():
    overrides = ["suite=smoke", "+suite.cases.ring.rows=[dps, fk]"]
    with initialize_config_module("alignflow.configs", version_base="1.3"):
        suite = build_suite(compose("benchmark", overrides=overrides).suite)
        wrong = compose("benchmark", overrides=["suite=smoke", "+suite.cases.ring.rows=[dsp]"])
    assert [name for name in suite.methods if suite.cases[0].measures(name)] == ["dps", "fk"]
    with pytest.raises(ValueError, match="each of the rows of ring must be one of .*dsp"):
        build_suite(wrong.suite)


@pytest.fixture
def policy():
    target = Sequences.random(2, LETTERS, seed=0, std=1.5)
    torch.manual_seed(0)
    network = ExactLogits(target, width=32)
    return FlowMapPolicy(network, (2, 3), "simplex", decode=LETTERS), target


@pytest.mark.parametrize("t", [0.0, 0.3, 0.8, 0.95])
def test_exact_logits_begin_as_the_exact_denoiser(policy, t, generator):
    model, target = policy
    x = (1 - t) * target.noise(9, generator) + t * target.sample(9, generator=generator)
    wanted = target.denoiser(x, t)
    # a token that is ruled out keeps one in a million
    torch.testing.assert_close(model.denoiser(x, t), wanted, rtol=0, atol=5e-6)
    s, end = torch.full((9,), t), torch.ones(9)
    torch.testing.assert_close(model.mean_denoiser(x, s, end), wanted, rtol=0, atol=5e-6)


def test_a_tuner_moves_them_towards_the_tilt(policy, generator):
    model, target = policy
    tilt = Tilt(TokenCount(LETTERS, "a"), 1.5)
    tuned = af.finetune(
        model, tilt, "weighted", steps=120, batch_size=128, pool=2048, learning_rate=5e-3,
        candidate_steps=16, ema_decay=0.95, diagonal_fraction=0.9, generator=0,
    )  # fmt: skip
    tilted = target.tilted(tilt)
    before, after = (
        tilted.total_variation(each.sample(2000, 16, generator=generator)).item()
        for each in (model, tuned)
    )
    assert before > 0.3 and after < before / 2
