"""Advice on closed forms: the method that it names reaches the tilt, at the cost that it says."""

import io
import json
from dataclasses import MISSING
from inspect import signature

import pytest
import torch
from rich.console import Console

import alignflow as af
from alignflow.cost import Cost
from alignflow.interpolants import as_time, expand_time
from alignflow.steering import ChainSteerer
from alignflow.steering.advising import Row, Study, importance_distance, work
from alignflow.steering.advising.candidates import longer
from alignflow.steering.advising.checking import check_cheapest
from alignflow.targets import Sequences

NAMES = ["New York", "San Diego", "Boston", "Austin", "Denver", "Dallas"]


def normal_policy(dimension=2):
    def std(time, x):
        time = expand_time(as_time(time, x), x)
        return (time.square() + (1 - time).square()).sqrt()

    return af.from_flow_map(
        lambda x, s, t, condition=None: x * std(t, x) / std(s, x), event_shape=(dimension,)
    )


def first(points):
    return points[:, 0]


def letters(strings):
    return [float(string.count("a")) for string in strings]


@pytest.fixture(scope="module")
def advice():
    return af.advise(normal_policy(), first, 1.0, 64, jumps=1, generator=0)


def test_a_normal_shifted_by_one_is_reached_within_the_stated_error(advice):
    """N(1, 1): probabilities of x < c by 4,000 samples, whose noise is .025 at three errors."""
    assert advice.reached
    best = advice.best
    steerer = af.steer(normal_policy(), af.Tilt(first, 1.0), best.recipe, steps=best.steps)
    out = steerer.sample(4000, generator=1)
    grid = torch.linspace(-1, 3, 9)
    exact = torch.distributions.Normal(1.0, 1.0).cdf(grid)
    found = (out["state"][:, :1] < grid).float().mean(0)
    assert (found - exact).abs().max() < best.distance + 2 * best.error + 0.025
    assert out["nfe"] == best.cost.nfe and out["reward_calls"] == best.cost.reward_calls


def test_costs_are_within_a_factor_of_two_of_what_is_measured(advice):
    """Particles and burn-in at distance .05, from 100,000 normal weights and 4,000 chains."""
    rows = {row.method: row for row in advice.rows}
    weight = torch.randn(20_000, generator=torch.Generator().manual_seed(3)).double().exp()
    half, double = (int(rows["importance"].needed * scale) for scale in (0.5, 2))
    assert importance_distance(weight, half) > 0.05 > importance_distance(weight, double)
    steerer = af.steer(normal_policy(), first, "source_mcmc", strength=1.0, steps=80, jumps=1)
    assert isinstance(steerer, ChainSteerer)
    chain = steerer.sample(4000, generator=2, return_chain=True)["chain_reward"]
    left = 0.6915 - (chain > 0.5).double().mean(0)
    steps = int((left > 0.05).sum())
    assert steps / 2 <= rows["source_mcmc"].needed <= 2 * steps + 2


def test_a_list_of_strings_is_reached_within_the_stated_error():
    policy = Sequences(NAMES)
    advice = af.advise(policy, letters, 1.0, 48, jumps=2, samples=512, generator=0)
    assert advice.reached
    best = advice.best
    steerer = af.steer(policy, af.Tilt(letters, 1.0), best.recipe, steps=best.steps)
    out = steerer.sample(1000, generator=1)
    exact = (torch.tensor(letters(NAMES))).softmax(0)
    drawn = policy.decode(out["state"])
    found = torch.tensor([drawn.count(name) / 1000 for name in NAMES])
    # noise of five frequencies
    assert 0.5 * (found - exact).abs().sum() < best.distance + 2 * best.error + 0.04
    assert out["nfe"] == best.cost.nfe


def test_the_cheapest_of_those_that_reach_it_is_marked(advice):
    reaching = [row for row in advice.rows if row.reaches(advice.budget)]
    assert work(advice.best.cost) == min(row.needed for row in reaching)
    assert not any(row.biased for row in reaching)
    shown = repr(advice)
    assert "*" in shown and all(row.method in shown for row in advice.rows)
    assert "reaches the tilt at" in shown and "<table>" in advice._repr_html_()
    assert json.loads(json.dumps(advice.to_dict()))["rows"][1]["method"] == "best_of_n"


def test_auto_takes_the_advised_method(advice):
    steerer = af.steer(
        normal_policy(), first, "auto", strength=1.0, budget=64, jumps=1, generator=0
    )
    assert steerer.cost == advice.best.cost
    assert steerer.title == f"auto: {advice.verdict}"


def test_a_small_budget_is_answered_by_the_nearest():
    policy = normal_policy()
    advice = af.advise(policy, first, 2.0, 3, jumps=1, samples=2048, generator=0)
    assert advice.reached is False and advice.best.cost.nfe <= 3
    assert "no method reaches the tilt within 3 forwards" in advice.verdict


def test_a_pilot_without_the_tilt_says_so():
    advice = af.advise(normal_policy(), first, 6.0, 8, jumps=1, samples=64, generator=0)
    assert advice.reached is None and advice.verdict.startswith("cannot be told")


@pytest.mark.parametrize("seed", range(3))
def test_what_was_foretold_too_low_is_mended_by_the_check(seed):
    """A chain of one step stands where it began: a check is not passed, and steps are added."""
    study = Study(normal_policy(), af.Tilt(first, 1.0), 64, jumps=1, samples=512, generator=seed)
    recipe = af.steering.SourceMCMC(jumps=1)
    cost = study.steerer(recipe, 1).cost
    study.rows = [Row(recipe, 1, cost, 0.0, 0.01, 0.0, "fit", needed=work(cost))]
    (row,) = check_cheapest(study)
    assert row.basis == "check" and row.steps > 5 and row.needed == work(row.cost) == row.steps + 1
    assert row.distance <= max(0.05, 2 * row.error)


def test_what_never_reaches_it_is_checked_until_the_budget_is_spent():
    study = Study(normal_policy(), af.Tilt(first, 1.0), 8, jumps=1, samples=512, generator=0)
    recipe = af.steering.SourceMCMC(jumps=1)
    cost = study.steerer(recipe, 1).cost
    study.rows = [Row(recipe, 1, cost, 0.0, 0.01, 0.0, "fit", needed=work(cost))]
    (row,) = check_cheapest(study)
    assert row.needed is not None and row.needed > 8 >= work(row.cost)
    assert not row.reaches(8)


def test_more_of_a_method_is_more_steps_particles_or_draws():
    def grown(recipe, steps):
        return longer(Row(recipe, steps, Cost(), 0.0, 0.0, 0.0, "run", needed=None))

    steering = af.steering
    assert grown(steering.Waltz(), 5) == (steering.Waltz(), 8)
    assert grown(steering.FK(particles=2), 8) == (steering.FK(particles=3), 8)
    assert grown(steering.GLASS(draws=4), 8) == (steering.GLASS(draws=6), 8)


def test_a_constant_reward_is_reached_by_a_sample_of_the_base():
    advice = af.advise(normal_policy(), lambda x: x.new_zeros(len(x)), 2.0, 8, samples=64, jumps=1)
    assert advice.reached and advice.best.cost.nfe == 1 and advice.best.distance == 0


def test_guidance_by_a_learned_value_is_a_method_too():
    policy, reward = af.targets.ring(), af.targets.ring_reward()
    network = af.policies.MLP(2, width=8)
    value = af.learn_value(policy, reward, steps=1, samples=16, batch_size=4, network=network)
    advice = af.advise(policy, reward, 1.0, 16, value=value, samples=64, jumps=1, generator=0)
    (row,) = (row for row in advice.rows if row.method == "value_guidance")
    assert row.options == {"value": "learned"} and row.basis == "run"
    assert "tunings (af.finetune)" in repr(advice)


def test_a_table_fits_a_terminal_and_loses_no_word(advice):
    text = io.StringIO()
    Console(file=text, width=80).print(advice)
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    words = text.getvalue().split()
    assert all(row.method in words for row in advice.rows)
    assert {"transition=anchored", "(weights)", "(fit)"} <= set(words)


def test_options_of_auto_are_arguments_of_advise():
    arguments = signature(af.advise).parameters
    for name, option in af.steer.options("auto").items():
        assert option.default in (arguments[name].default, MISSING)


def test_a_reward_that_is_no_number_is_named():
    def broken(points):
        return points[:, 0].sqrt()

    with pytest.raises(af.RewardError, match="broken"):
        af.advise(normal_policy(), broken, 1.0, 8, samples=64, jumps=1)


@pytest.mark.parametrize("policy", [None, "avatars"], ids=str)
def test_what_is_no_policy_is_refused(policy):
    with pytest.raises((TypeError, ValueError), match="policy"):
        af.advise(policy, first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "budget must be"),
        ({"budget": 3}, "less than a sample of the base"),
        ({"tolerance": 1.5}, "tolerance must be"),
        ({"samples": 3}, "samples must be"),
        ({"strength": -1.0}, "strength must be"),
        ({"strength": 0.0}, "strength must be above 0"),
        ({"strength": float("nan")}, "strength must be"),
        ({"jumps": 0}, "jumps must be"),
        ({"value": first}, "value must be a learned value"),
        ({"condition": [1, 2]}, "one for all samples"),
        ({"seed": 1}, "takes no seed"),
    ],
    ids=str,
)
def test_what_cannot_be_advised_on_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        af.advise(normal_policy(), first, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs a budget"),
        ({"budget": 8, "steps": 4}, "steps beside the method 'auto'"),
        ({"budget": 8, "grid": [0.0, 1.0]}, "grid beside the method 'auto'"),
        ({"budgte": 8}, "did you mean 'budget'"),
        ({"budget": 0}, "budget must be"),
    ],
    ids=str,
)
def test_auto_refuses_what_it_would_not_use(options, message):
    with pytest.raises(ValueError, match=message):
        af.steer(normal_policy(), first, "auto", **options)
