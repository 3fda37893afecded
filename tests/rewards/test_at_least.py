"""At least: golden values, on texts and on states, soundness, refusals."""

import math

import pytest
import torch

import alignflow as af
from alignflow.rewards import AtLeast, Brightness, Length, TokenCount


def test_known_values():
    reward = AtLeast(Length(), 3)
    assert reward(["ab", "abc", "abcd"]).tolist() == [0, 1, 1]
    assert reward.name == "length_at_least_3" and not reward.differentiable


def test_a_reward_of_states_stays_one():
    vocabulary = af.Vocabulary(["<pad>", "a", "b"])
    states = vocabulary.one_hot(vocabulary.encode(["abb", "aa"], 3))
    reward = AtLeast(TokenCount(vocabulary, "b"), 2, name="many")
    assert reward.score(states, decode=vocabulary).tolist() == [1, 0]
    assert reward.name == "many"


def test_it_is_sound(rgb_policy):
    report = af.check_reward(AtLeast(Brightness(), 0.5), rgb_policy)
    assert report.ok, str(report)


def test_it_takes_any_callable():
    assert AtLeast(lambda x: x.sum(1), 0.5)(torch.eye(2)).tolist() == [1, 1]


@pytest.mark.parametrize("threshold", [math.nan, "much"])
def test_what_is_no_threshold_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold must be"):
        AtLeast(Length(), threshold)
