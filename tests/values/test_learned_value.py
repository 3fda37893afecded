"""The value by a network: what it cannot get wrong, its nodes, its folder, refusals."""

import json

import pytest
import torch
from tensordict import TensorDict
from torch import nn

import alignflow as af
from alignflow.checkpoint import digest, load_folder, save_folder
from alignflow.coordinates import to_relative
from alignflow.cost import metered
from alignflow.policies import EGNN, MLP
from alignflow.targets import GaussianMixture
from alignflow.targets.rewards import Linear
from alignflow.values import Learned, LearnedGradient, LearnedTilt, LearnedValue, ValueFunction


def gaussian(dimension: int = 2, variance: float = 0.5) -> GaussianMixture:
    return GaussianMixture(
        torch.ones(1, dtype=torch.float64),
        torch.ones(1, dimension, dtype=torch.float64),
        variance * torch.eye(dimension, dtype=torch.float64).unsqueeze(0),
    )


def linear(*direction: float) -> Linear:
    return Linear(torch.tensor(direction or (1.0, -0.5), dtype=torch.float64))


class ExactValue(ValueFunction):
    """The value of a target in closed form."""

    def __init__(self, target, reward):
        super().__init__(reward.name, digest(target), tuple(target.event_shape), (0.0, 4.0))
        self.target, self.scored = target, reward

    def forward(self, x, t, strength, condition=None):
        return self.target.value(x, t, self.scored, strength[0].item())


def untrained(target: GaussianMixture, reward: af.Reward, **options) -> LearnedValue:
    torch.manual_seed(0)
    network = MLP(target.event_shape[0], width=16, depth=2).double()
    value = LearnedValue(network, reward.name, digest(target), target.event_shape, **options)
    value.center.fill_(0.3)
    return value


def at(target, time: float, n: int = 7) -> TensorDict:
    state = target.sample(n, generator=torch.Generator().manual_seed(1)).requires_grad_()
    return TensorDict({"state": state, "time": state.new_full((n,), time)}, batch_size=n)


def of(value: LearnedValue, x: torch.Tensor, time: float, strength: float) -> torch.Tensor:
    return value(x, x.new_full((len(x),), time), x.new_full((len(x),), strength))


def test_it_is_zero_at_strength_0_and_flat_at_time_0():
    target, reward = gaussian(), linear()
    value, x = untrained(target, reward), target.sample(9)
    assert (of(value, x, 0.4, 0.0) == 0).all()
    at_noise = of(value, x, 0.0, 2.0)
    torch.testing.assert_close(at_noise, at_noise[:1].expand(9))
    assert of(value, x, 0.4, 2.0).std() > 0


@pytest.mark.parametrize("time", [0.2, 0.9])
def test_the_nodes_give_the_value_its_gradient_and_the_move_of_the_velocity(time):
    target, reward = gaussian(), linear()
    value, tilt, batch = untrained(target, reward), af.Tilt(reward, 2.0), at(target, time)
    x = batch["state"]
    exact = of(value, x, time, 2.0)
    (gradient,) = torch.autograd.grad(exact.sum(), x)
    found = LearnedGradient(target, tilt, value)(batch.copy())
    torch.testing.assert_close(found["value"], exact.detach())
    torch.testing.assert_close(found["value_gradient"], gradient)
    torch.testing.assert_close(
        Learned(target, tilt, value)(batch.copy())["value"].detach(), exact.detach()
    )
    moved = LearnedTilt(target, tilt, value, scale=0.5)(batch.copy())
    torch.testing.assert_close(moved["correction"], 0.5 * (1 - time) / time * gradient)


@pytest.mark.parametrize("time", [0.0, 0.3])
def test_with_the_exact_value_the_move_is_that_to_the_tilted_velocity(time):
    """At time 0, where c_t grad V is 0 times infinity, to the 1e-4 at which it is taken."""
    target, reward = gaussian(), linear()
    batch = at(target, time)
    moved = LearnedTilt(target, af.Tilt(reward, 2.0), ExactValue(target, reward))(batch)
    state = batch["state"].detach()
    exact = target.tilted_velocity(state, time, reward, 2.0) - target.velocity(state, time)
    torch.testing.assert_close(moved["correction"], exact, rtol=1e-3, atol=1e-3)


def test_a_forward_and_a_gradient_are_counted():
    target, reward = gaussian(), linear()
    node = LearnedTilt(target, af.Tilt(reward, 2.0), untrained(target, reward))
    with metered() as meter:
        node(at(target, 0.5))
    assert (meter.total.nfe, meter.total.vjps, meter.total.reward_calls) == (7, 7, 0)


def test_particles_have_a_value_that_no_rotation_and_no_order_changes(generator):
    network = EGNN(4, 3, width=8, depth=2).double()
    value = LearnedValue(network, "energy", "", (3, 3))
    places = torch.randn(5, 4, 3, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    before = of(value, to_relative(places), 0.6, 1.0)
    after = of(value, to_relative(places[:, [2, 0, 3, 1]] @ turn), 0.6, 1.0)
    torch.testing.assert_close(before, after)
    assert before.std() > 0


def test_a_network_may_answer_with_a_number_a_row(generator):
    class Sum(nn.Module):
        def forward(self, x, s, t):
            return x.flatten(1).sum(1)

    value = LearnedValue(Sum(), "reward", "", (3,), (0.0, 2.0), data_std=1.0)
    x = torch.randn(4, 3, generator=generator)
    torch.testing.assert_close(of(value, x, 0.5, 2.0), 2.0 * x.sum(1))


def test_it_is_saved_and_loaded_with_all_that_it_was_learned_for(tmp_path):
    target, reward = gaussian(), linear()
    value = untrained(target, reward, strengths=(0.5, 3.0), data_std=0.7, facts={"card": [1, None]})
    folder = value.save(tmp_path / "value")
    again, x = af.load_value(folder), target.sample(5)
    torch.testing.assert_close(of(again, x, 0.4, 2.0), of(value, x, 0.4, 2.0))
    assert (again.reward, again.policy, again.strengths) == ("linear", digest(target), (0.5, 3.0))
    assert again.facts == {"card": [1, None]} and again.event_shape == (2,)
    assert not any(p.requires_grad for p in again.parameters()) and not again.training
    assert again.save(folder) == folder


def test_a_value_and_a_policy_are_not_taken_for_each_other(tmp_path):
    folder = untrained(gaussian(), linear()).save(tmp_path / "value")
    with pytest.raises(af.CheckpointError, match="holds a learned value: af.load_value reads it"):
        af.load(folder)
    policy = af.load("ring").save(tmp_path / "policy")
    with pytest.raises(af.CheckpointError, match="holds no learned value; af.load reads a policy"):
        af.load_value(policy)


def test_a_network_of_ones_own_is_given_again(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x, s, t):
            return self.layer(x)

    value = LearnedValue(Own(), "reward", "", (3,))
    folder = value.save(tmp_path / "value")
    with pytest.raises(af.CheckpointError, match=r"not registered.*network=MyNet\(\)"):
        af.load_value(folder)
    again, x = af.load_value(folder, network=Own()), torch.randn(2, 3)
    torch.testing.assert_close(of(again, x, 0.4, 2.0), of(value, x, 0.4, 2.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strengths": [2.0, 1.0]}, "holds no learned value: strengths must be the least and"),
        ({"event_shape": [3]}, "must be|does not take states of shape"),
        ({"event_shape": [-2]}, "event_shape must be a whole number"),
        ({"network": "os"}, "network that is not registered"),
        ({"format": 2}, "has format 2, expected 1"),
        ({"dtype": "int8"}, "names a dtype that is none of"),
        ({"reward": 3}, "reward must be of type str"),
    ],
    ids=str,
)
def test_a_folder_that_says_something_else_is_refused(change, message, tmp_path):
    tensors, facts = load_folder(untrained(gaussian(), linear()).save(tmp_path / "value"))
    save_folder(tmp_path / "value", tensors, json.loads(json.dumps(facts | change)))
    with pytest.raises(af.CheckpointError, match=message):
        af.load_value(tmp_path / "value")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"policy": gaussian(variance=0.6)},
            "learned for another policy, of digest",
        ),
        ({"policy": gaussian(3)}, r"states of shape \(2,\), got a policy of .* \(3,\)"),
        ({"reward": lambda x: x[:, 0]}, "of the reward 'linear', got the reward '<lambda>'"),
        ({"strength": 4.5}, "knows strengths from 0 to 4, got strength=4.5"),
        ({"guidance": 2.0}, "guidance must be 1, got 2"),
        ({"value": None}, r"must be given, value=af.learn_value\(policy, reward\), got None"),
        ({"value": 3}, "value must be a learned value, af.learn_value"),
    ],
    ids=str,
)
def test_what_a_value_was_not_learned_for_is_refused(given, message):
    target, reward = gaussian(), linear()
    known = {"policy": target, "reward": reward, "value": untrained(target, reward)}
    with pytest.raises(ValueError, match=message):
        af.steer(method="value_guidance", **known | given)


@pytest.mark.parametrize("strengths", [3.0, (1.0,), (2.0, 1.0), (1.0, 1.0), (-1.0, 2.0), "02"])
def test_strengths_that_are_no_range_are_refused(strengths):
    with pytest.raises(ValueError, match="strengths must be"):
        LearnedValue(MLP(2), "reward", "", (2,), strengths)
