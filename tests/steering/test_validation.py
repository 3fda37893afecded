"""Bad input: one clear error each, at build time where it can be known, else with its step."""

import math

import numpy as np
import pytest
import torch

import alignflow as af
from alignflow.targets.gaussian_mixture import GaussianMixture
from alignflow.targets.rewards import Linear


def gaussian() -> GaussianMixture:
    return GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.eye(2).unsqueeze(0))


def linear() -> Linear:
    return Linear(torch.ones(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method must be one of lookahead, .*best_of_n.*got 'magic'"),
        ({"strength": math.nan}, "strength must be a finite number of at least 0, got nan"),
        ({"strength": math.inf}, "strength must be a finite number of at least 0, got inf"),
        ({"strength": -1.0}, "negate the reward"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"particles": 0}, "particles must be a whole number"),
        ({"micro_batch_size": 0}, "micro_batch_size must be a whole number"),
        (
            {"particles": 4},
            "particles=4 would do nothing.*methods that take particles: .*best_of_n",
        ),
        ({"method": "dps", "draws": 3}, "draws=3 would do nothing"),
        (
            {"method": "best_of_n", "step_size": 0.1},
            "'best_of_n' does not take step_size",
        ),
        ({"method": "dps", "step_size": 0.1}, "'dps' does not take step_size; it takes t_min"),
        ({"t_min": 0.1}, "'lookahead' does not take t_min; it takes step_size, transition"),
        ({"step_size": -0.1}, "step_size must be a finite number of at least 0"),
        ({"method": "dps", "t_min": 0.0}, r"t_min must be a fraction in \(0, 1\)"),
        ({"method": "dps", "t_min": 1.0}, r"t_min must be a fraction in \(0, 1\)"),
        ({"method": "dps", "steps": 1}, "nothing would be guided"),
        ({"transition": "leap"}, "transition must be one of flow_map, .*euler, heun, .*got 'leap'"),
        ({"method": "mfm_gf", "posterior": "guess"}, "posterior must be one of denoiser, flow_map"),
        ({"method": "mfm_gf", "draws": 1}, "compares draws .* needs at least 2 of them, got draws"),
        ({"method": "glass", "value": "gradient"}, "diverges at time 0: take t_min above 0"),
        ({"method": "glass", "inner_steps": 0}, "inner_steps must be a whole number of at least 1"),
        (
            {"method": "mfm_g", "posterior": "exact"},
            "cannot differentiate the draws .* no smooth .* use the value 'gradient_free'",
        ),
        ({"method": "fk", "posterior": "flow_map", "draws": 2}, "draws=2 would do nothing"),
        (
            {"method": "mfm_gf", "posterior": "flow_map", "draws": 2},
            "'flow_map' is a point and gives one draw, got draws=2",
        ),
        (
            {"method": "twisted_smc", "transition": "euler"},
            "must know the density of a corrected move, and Euler.. has none: use .*'sde'",
        ),
        (
            {"method": "twisted_smc", "transition": {"name": "sde", "noise": 0.0}},
            "must know the density of a corrected move",
        ),
        (
            {"method": "mfm_gf", "posterior": "exact", "transition": "glass"},
            "takes no correction: use the value 'value', which only weighs",
        ),
        (
            {"method": "fk", "transition": {"name": "anchored", "achnor": 0.5}},
            "transition 'anchored' does not take achnor; it takes anchor",
        ),
        ({"method": "custom", "value": "value"}, "needs endpoints: choose a posterior"),
        (
            {"method": "custom", "resampler": "adaptive", "particles": 4},
            "weighs particles by their value: choose one",
        ),
        (
            {
                **{"method": "custom", "resampler": "adaptive", "particles": 4, "t_min": 0.1},
                **{"posterior": "denoiser", "value": "value", "transition": "sde"},
            },
            "needs the value at every step",
        ),
        ({"method": "glas"}, "got 'glas'; did you mean 'glass'"),
        ({"step_siz": 0.1}, "'lookahead' does not take step_siz.*did you mean 'step_size'"),
        ({"strength": "abc"}, "strength must be a finite number of at least 0, got 'abc'"),
        ({"strength": None}, "strength must be a finite number of at least 0, got None"),
        ({"guidance": math.nan}, "guidance must be a finite number, got nan"),
        ({"guidance": True}, "guidance must be a finite number, got True"),
        ({"micro_batch_size": -3}, "micro_batch_size must be a whole number of at least 1, got -3"),
        ({"micro_batch_size": 2.5}, "micro_batch_size must be a whole number .*got 2.5"),
        ({"step_size": math.nan}, "step_size must be a finite number of at least 0, got nan"),
        ({"step_size": "big"}, "step_size must be a finite number of at least 0, got 'big'"),
        ({"method": "fmrg_j", "t_max": 2.0}, r"t_max must be a fraction in \(0, 1\), got 2.0"),
        ({"method": "glass", "t_min": -0.1}, r"t_min must be a fraction in \[0, 1\], got -0.1"),
        ({"method": "glass", "t_min": math.nan}, "t_min must be a fraction"),
        ({"method": "glass", "inner_steps": 1.5}, "inner_steps must be a whole number"),
        ({"method": "glass", "draws": math.inf}, "draws must be a whole number"),
        ({"method": "glass", "solver": "heum"}, "solver must be one of .*did you mean 'heun'"),
        ({"method": "weighted_diamond", "snr_ratio": math.nan}, "snr_ratio must be a finite"),
        ({"method": "fmtt", "noise": -1.0}, "noise must be a finite number of at least 0"),
        ({"method": "fmtt", "threshold": 1.5}, "threshold must be a fraction"),
        ({"method": "fmtt", "particles": "8"}, "particles must be a whole number .*got '8'"),
        ({"method": "fk", "scheme": 3}, "scheme must be one of .*got 3"),
        ({"method": "fk", "potential": "dif"}, "potential must be one of .*did you mean 'diff'"),
        ({"method": "twisted_smc", "scale": -1.0}, "scale must be a finite number of at least 0"),
        ({"method": "reno", "iterations": 0}, "iterations must be a whole number of at least 1"),
        ({"method": "reno", "clip": 0.0}, "clip must be a positive number, got 0.0"),
        ({"method": "reno", "regularization": -1.0}, "regularization must be a finite number"),
        ({"method": "search", "scope": "world"}, "scope must be one of system, particle"),
        (
            {"transition": {"noise": 1.0}},
            "transition must be a name, or a mapping of its name and numbers .*, got {'noise'",
        ),
        ({"method": "custom", "corrections": 3}, "corrections must be a correction, or .*, got 3"),
        ({"method": "custom", "value": "gradient"}, "choose a posterior, got None"),
        ({"transition": 3}, "transition must be one of .*got 3"),
        ({"transition": {"name": "sde", "noise": "loud"}}, "noise must be a number, 'memoryless'"),
        (
            {"method": "fk", "transition": {"name": "anchored", "anchor": 0.0}},
            r"anchor must be a fraction in \(0, 1\], got 0.0",
        ),
        ({"method": "custom", "t_min": 0.5, "t_max": 0.5}, "t_min must be below t_max"),
        ({"grid": 3}, "a grid needs at least two times"),
        ({"grid": object()}, "grid must be 'uniform' or increasing times, got <object"),
        ({"grid": "cosine"}, "grid must be 'uniform' or increasing times, got 'cosine'"),
        ({"grid": torch.tensor([0.0, 0.5, 0.5, 1.0])}, "a grid must increase"),
        ({"grid": torch.tensor([0.0, math.nan, 1.0])}, "a grid must be finite"),
        ({"grid": torch.tensor([0.1, 1.0])}, "runs from 0 to 1, got 0.1"),
        ({"grid": [0.0, 0.5]}, "runs from 0 to 1, got 0.0 to 0.5"),
        (
            {"grid": [0.0, 0.5, 1.0], "steps": 3},
            r"a grid of 3 times has 2 steps, got grid=\[0.0, 0.5, 1.0\] with steps=3",
        ),
    ],
    ids=str,
)
def test_bad_options_are_refused_at_build_time(options, message):
    with pytest.raises(ValueError, match=message):
        af.steer(gaussian(), linear(), **options)


def test_a_number_is_checked_whether_or_not_the_choice_takes_it():
    renoised = {"posterior": "renoised", "inner_steps": -67}
    with pytest.raises(ValueError, match="^inner_steps must be a whole number of at least 1, got"):
        af.steer(gaussian(), linear(), "search", **renoised)


def test_what_cannot_be_called_after_a_step_is_refused():
    steerer = af.steer(gaussian(), linear(), steps=2)
    for callback in (3, "x", {}):
        with pytest.raises(ValueError, match="^callback must be a callable .step, tensor"):
            steerer.sample(2, callback=callback)


def test_one_particle_and_one_draw_may_be_said_aloud():
    assert af.steer(gaussian(), linear(), particles=1, draws=1).sample(2)["state"].shape == (2, 2)


@pytest.mark.parametrize("method", ["lookahead", "lookahead_weighted", "dps"])
def test_a_black_box_is_refused_by_methods_that_differentiate_it(method):
    def count(endpoint):
        return endpoint.sum(-1).round()

    with pytest.raises(ValueError, match="gradient of reward 'count'.*best_of_n, importance"):
        af.steer(gaussian(), count, method=method)


@pytest.mark.parametrize("method", ["best_of_n", "importance"])
@pytest.mark.parametrize("kind", [lambda r: r.tolist(), lambda r: r.numpy(), lambda r: r[:, None]])
def test_a_black_box_may_answer_in_lists_arrays_and_columns(method, kind):
    out = af.steer(gaussian(), lambda x: kind(x.sum(-1)), method=method).sample(3)
    torch.testing.assert_close(out["reward"], out["state"].sum(-1))


def test_what_is_no_reward_is_refused():
    with pytest.raises(TypeError, match="a reward must be callable"):
        af.steer(gaussian(), 3.0)


def test_a_sample_of_nobody_is_refused():
    with pytest.raises(ValueError, match="n must be a whole number of at least 1, got 0"):
        af.steer(gaussian(), linear()).sample(0)


@pytest.mark.parametrize(
    ("n", "options", "message"),
    [
        (2.5, {}, "n must be a whole number of at least 1, got 2.5"),
        (True, {}, "n must be a whole number"),
        (2, {"generator": -1}, "generator must be a torch.Generator or a seed"),
        (2, {"generator": "seed"}, "generator must be a torch.Generator or a seed"),
        (2, {"return_trajectory": "yes"}, "return_trajectory must be true or false"),
    ],
)
def test_numbers_of_a_sample_are_refused_by_name(n, options, message):
    with pytest.raises(ValueError, match=message):
        af.steer(gaussian(), linear()).sample(n, **options)


def test_a_whole_number_is_a_source_of_randomness():
    steerer = af.steer(gaussian(), linear())
    seeded = steerer.sample(3, generator=torch.Generator().manual_seed(7))
    assert torch.equal(steerer.sample(3, generator=7)["state"], seeded["state"])


def test_counts_may_come_as_floats_and_as_numbers_of_numpy():
    options = {"steps": 2.0, "particles": np.int64(3), "micro_batch_size": np.float32(2)}
    out = af.steer(gaussian(), linear(), "fk", **options).sample(2.0)
    assert out["particles", "state"].shape == (2, 3, 2)


def test_conditions_for_another_number_of_systems_are_refused():
    with pytest.raises(ValueError, match="3 samples need one condition or 3, got 2"):
        af.steer(gaussian(), linear()).sample(3, condition=torch.zeros(2))


def test_guidance_without_a_condition_is_refused():
    with pytest.raises(ValueError, match="guidance needs a condition"):
        af.steer(gaussian(), linear(), guidance=2.0).sample(3)


def test_a_reward_of_the_wrong_shape_is_named_with_its_step():
    wide = af.reward(lambda x: x, differentiable=True, name="wide")
    with pytest.raises(af.RewardError, match=r"at step 0 \(time 0\): reward 'wide' must"):
        af.steer(gaussian(), wide).sample(3)
    with pytest.raises(af.RewardError, match=r"at step 8 \(time 1\): reward '.*' must"):
        af.steer(gaussian(), lambda x: x, method="best_of_n").sample(3)


def test_the_exception_of_the_reward_is_the_cause():
    def broken(endpoint):
        raise KeyError("no such prompt")

    with pytest.raises(af.RewardError, match="at step 8.*'broken' raised KeyError") as caught:
        af.steer(gaussian(), broken, method="best_of_n").sample(3)
    assert isinstance(caught.value.__cause__, KeyError)


def failing_late(on_invalid: str) -> af.Reward:
    """NaN for the second sample from the third call on."""
    calls = []

    @af.reward(differentiable=True, name="late", on_invalid=on_invalid)
    def late(endpoint):
        calls.append(None)
        bad = torch.arange(len(endpoint)) == 1
        return torch.where(bad & (len(calls) > 2), math.nan, endpoint.sum(-1))

    return late


def test_an_invalid_reward_raises_with_its_step_and_samples():
    steerer = af.steer(gaussian(), failing_late("raise"), steps=4)
    with pytest.raises(af.RewardError, match=r"at step 2 \(time 0.5\).*for samples 1 \(nan\)"):
        steerer.sample(3)


def test_an_invalid_reward_in_a_micro_batch_says_where_that_begins():
    def bad(endpoint):
        return torch.where(endpoint[:, 0] > 1, math.nan, 0.0)

    policy = af.from_flow_map(lambda x, s, t: torch.arange(3.0)[:, None] * torch.ones_like(x), (1,))
    steerer = af.steer(policy, bad, method="best_of_n", particles=3, steps=1)
    with pytest.raises(af.RewardError, match=r"samples 2 \(nan\) of 3$"):
        steerer.sample(1)

    policy = af.from_flow_map(lambda x, s, t: x + 10, (1,))
    steerer = af.steer(policy, bad, method="best_of_n", particles=4, steps=1, micro_batch_size=2)
    with pytest.raises(af.RewardError, match="of 2, counted from row 0 of 4"):
        steerer.sample(1)


def test_a_dropped_sample_has_no_weight_and_is_not_guided():
    out = af.steer(gaussian(), failing_late("drop"), steps=4).sample(3)
    assert out["reward"][1] == -math.inf and out["particles", "log_weight"][1, 0] == -math.inf
    assert torch.isfinite(out["state"]).all() and torch.isfinite(out["reward"][[0, 2]]).all()


def test_an_invalid_sample_may_take_the_worst_reward():
    out = af.steer(gaussian(), failing_late("worst"), steps=4).sample(3)
    assert out["reward"][1] == out["reward"].min() and torch.isfinite(out["reward"]).all()


@pytest.mark.parametrize("method", ["best_of_n", "importance"])
def test_dropped_particles_are_never_chosen(method):
    @af.reward(on_invalid="drop")
    def positive(endpoint):
        return torch.where(endpoint[:, 0] > 0, endpoint[:, 0], math.nan)

    generator = torch.Generator().manual_seed(0)
    out = af.steer(gaussian(), positive, method=method, particles=20).sample(
        50, generator=generator
    )
    assert (out["state"][:, 0] > 0).all() and torch.isfinite(out["reward"]).all()
    assert (out["particles", "log_weight"] == -math.inf).any()


def test_a_system_whose_particles_were_all_dropped_is_an_error():
    never = af.reward(lambda endpoint: torch.full((len(endpoint),), math.nan), on_invalid="drop")
    with pytest.raises(ValueError, match="all 8 particles of system 0, 1"):
        af.steer(gaussian(), never, method="best_of_n").sample(2)
