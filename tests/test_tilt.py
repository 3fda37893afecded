"""The tilt: log-weights, their gradient, fractions, and what is refused."""

import math

import pytest
import torch

import alignflow as af


@af.reward(differentiable=True, on_invalid="drop")
def square_root(endpoint):
    """Not a number below 0, where it is dropped."""
    return endpoint[:, 0].sqrt()


def test_the_log_weight_is_the_strength_times_the_reward():
    rewards = torch.tensor([[-1.0, 0.0], [2.0, 3.5]], dtype=torch.float64)
    assert torch.equal(af.Tilt(square_root, 2.0).log_weight(rewards), 2 * rewards)


@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_a_dropped_sample_keeps_the_log_weight_minus_infinity_at_any_strength(strength):
    found = af.Tilt(square_root, strength).log_weight(torch.tensor([-math.inf, 1.0]))
    assert found.tolist() == [-math.inf, strength]


def test_the_gradient_is_the_strength_times_the_reward_s_and_0_where_it_drops():
    states = torch.tensor([[4.0, 7.0], [-1.0, 7.0]], dtype=torch.float64)
    rewards, gradient = af.Tilt(square_root, 3.0).gradient(states)
    assert rewards.tolist() == [2.0, -math.inf] and not rewards.requires_grad
    assert gradient.tolist() == [[3.0 / (2 * 2.0), 0.0], [0.0, 0.0]]
    assert not states.requires_grad


def test_the_gradient_goes_through_decode():
    tilt = af.Tilt(square_root, 1.0)
    _, gradient = tilt.gradient(torch.tensor([[2.0]], dtype=torch.float64), decode=torch.square)
    assert gradient.item() == 1.0


def test_a_fraction_of_a_tilt_has_that_fraction_of_its_strength():
    tilt = af.Tilt(square_root, 4.0)
    assert tilt.scaled(0.25).strength == 1.0 and tilt.scaled(0.25).reward is square_root


def test_a_plain_callable_is_a_black_box():
    tilt = af.Tilt(lambda endpoint: endpoint[:, 0])
    assert not tilt.reward.differentiable and tilt.strength == 1.0


@pytest.mark.parametrize("strength", [-1.0, math.nan, math.inf, "much"])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(ValueError, match="strength must"):
        af.Tilt(square_root, strength)


def test_what_is_no_reward_is_refused():
    with pytest.raises(TypeError, match="a reward must be callable, got int"):
        af.Tilt(3)  # pyright: ignore[reportArgumentType]
