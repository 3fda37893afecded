"""Sums of rewards: weights, terms, and what becomes of their gradients."""

import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict

import alignflow as af
from alignflow.reward_module import Reward, RewardError, Sum, reward

STATES = torch.arange(6.0).view(3, 2)

square = Reward(lambda x: x.square().sum(-1), "square", differentiable=True)
first = Reward(lambda x: x[:, 0], "first", differentiable=True)


@reward
def boxed(endpoint):
    return endpoint.numpy().max(-1)


def test_a_sum_weighs_its_terms_and_keeps_each_by_name():
    both = Sum({"a": (square, 0.5), "b": (boxed, -2.0)})
    torch.testing.assert_close(both(STATES), 0.5 * square(STATES) - 2 * boxed(STATES))
    total, terms = both.score_terms(STATES)
    torch.testing.assert_close(total, both(STATES))
    torch.testing.assert_close(terms, {"a": square(STATES), "b": boxed(STATES)})


def test_a_sum_is_differentiable_if_all_of_its_terms_are():
    assert Sum({"a": (square, 1.0), "b": (first, 1.0)}).differentiable
    mixed = Sum({"a": (square, 1.0), "b": (boxed, 1.0)})
    assert not mixed.differentiable
    assert not mixed(STATES.clone().requires_grad_()).requires_grad


def test_the_gradient_of_a_sum_is_the_weighted_sum_of_gradients():
    states = STATES.double().requires_grad_()
    both = Sum({"a": (square, 0.5), "b": (first, 3.0)})
    (gradient,) = torch.autograd.grad(both(states).sum(), states)
    torch.testing.assert_close(gradient, states.detach() + torch.tensor([3.0, 0.0]).double())
    assert torch.autograd.gradcheck(both, states)
    assert not both.score_terms(states)[1]["a"].requires_grad


def test_plain_callables_and_sums_are_terms_too():
    inner = Sum({"a": (square, 2.0)})
    outer = Sum({"inner": (inner, 1.0), "plain": (lambda x: [1.0] * len(x), 1.0)})
    torch.testing.assert_close(outer(STATES), 2 * square(STATES) + 1)


def test_any_text_is_a_name_of_a_term():
    names = ["values", "a.b", "type", "a b"]
    assert list(Sum({name: (first, 1.0) for name in names}).terms) == names


def test_a_term_sees_what_it_asked_for_and_states_are_decoded_once():
    decoded = []

    def decode(states):
        decoded.append(len(states))
        return 10 * states

    raw = Reward(lambda x: x[:, 0], space="state")
    both = Sum({"raw": (raw, 1.0), "seen": (first, 1.0), "again": (first, 1.0)})
    torch.testing.assert_close(both.score(STATES, decode=decode), 21 * STATES[:, 0])
    assert decoded == [3]


def test_a_sum_of_state_rewards_decodes_nothing():
    def decode(states):
        raise AssertionError

    raw = Reward(lambda x: x[:, 0], space="state")
    assert Sum({"raw": (raw, 1.0)}).score(STATES, decode=decode).tolist() == [0.0, 2.0, 4.0]


def test_a_failing_term_is_named():
    with pytest.raises(RewardError, match="reward 'bad' is not finite for samples 0"):
        Sum({"a": (Reward(lambda x: x[:, 0] / 0, "bad"), 1.0)})(STATES)


@pytest.mark.parametrize("weight", [1.0, 0.0, -1.0])
def test_what_a_term_drops_is_dropped_whatever_its_weight(weight):
    root = Reward(lambda x: (x[:, 0] - 1).sqrt(), differentiable=True, on_invalid="drop")
    states = STATES.clone().requires_grad_()
    rewards = Sum({"root": (root, weight), "first": (first, 1.0)}).score(states)
    assert rewards.isneginf().tolist() == [True, False, False]
    (gradient,) = torch.autograd.grad(rewards[1:].sum(), states)
    assert gradient.isfinite().all()


def test_an_invalid_term_does_not_take_the_gradient_of_the_others():
    root = Reward(lambda x: (x[:, 0] - 1).sqrt(), differentiable=True, on_invalid="worst")
    states = STATES.clone().requires_grad_()
    rewards = Sum({"root": (root, 1.0), "first": (first, 1.0)}).score(states)
    (gradient,) = torch.autograd.grad(rewards.sum(), states)
    assert gradient[0].tolist() == [1.0, 0.0]


def test_a_tensordict_gets_each_term():
    both = Sum({"a": (square, 0.5), "b": (first, 1.0)})
    data = both(TensorDict({"endpoint": torch.arange(24.0).view(3, 4, 2)}, [3, 4]))
    assert both.out_keys == ["endpoint_reward", "endpoint_reward_a", "endpoint_reward_b"]
    assert all(data[key].shape == (3, 4) for key in both.out_keys)
    torch.testing.assert_close(
        data["endpoint_reward"], 0.5 * data["endpoint_reward_a"] + data["endpoint_reward_b"]
    )


def test_a_sum_is_made_from_a_config():
    terms = OmegaConf.create({"one": [1, 0.5]}, flags={"allow_objects": True})
    terms["one"][0] = square
    torch.testing.assert_close(Sum(terms)(STATES), 0.5 * square(STATES))


def test_printing_shows_the_terms_and_their_weights():
    printed = repr(af.Sum({"a": (square, 0.5), "b": (boxed, -1)}))
    assert printed == (
        "Sum(0.5 * Reward('square', differentiable) + -1.0 * Reward('boxed', black box))"
    )


REFUSED = {
    "empty": ({}, "at least one term"),
    "no weight": ({"a": square}, r"term 'a' must be a pair \(reward, weight\)"),
    "no mapping": ([square], r"at least one term, \{name: \(reward, weight\)\}, got \["),
    "a text": ({"a": (square, "much")}, "weight of term 'a' must be a finite number, got 'much'"),
    "NaN": ({"a": (square, float("nan"))}, "weight of term 'a' must be a finite number, got nan"),
}


@pytest.mark.parametrize(("terms", "message"), REFUSED.values(), ids=REFUSED)
def test_terms_that_make_no_sense_are_refused(terms, message):
    with pytest.raises(ValueError, match=message):
        Sum(terms)
