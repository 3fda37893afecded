"""The class mixture, on a classifier whose probabilities are known."""

import pytest
import torch
from torch import nn

import alignflow as af
from alignflow.rewards import ClassMixture


class Channels(nn.Module):
    """Three classes with logits 10 x the mean of each channel."""

    labels = ("0", "1", "2")
    exclusive = True

    def log_probabilities(self, images):
        return (10 * images.mean((2, 3))).log_softmax(1)


IMAGES = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_it_is_the_logarithm_of_the_weighted_probabilities():
    probabilities = Channels().log_probabilities(IMAGES).exp()
    expected = (probabilities @ torch.tensor([0.2, 0.0, 0.8])).log()
    torch.testing.assert_close(ClassMixture([0.2, 0, 0.8], Channels())(IMAGES), expected)


@pytest.mark.parametrize("weights", [[1, 0, 4], {"0": 1, "2": 4}, {0: 0.1, 2: 0.4}], ids=str)
def test_weights_are_scaled_and_may_be_named(weights):
    torch.testing.assert_close(
        ClassMixture(weights, Channels())(IMAGES), ClassMixture([0.2, 0, 0.8], Channels())(IMAGES)
    )


def test_all_classes_alike_tell_nothing():
    torch.testing.assert_close(
        ClassMixture([1, 1, 1], Channels())(IMAGES), -torch.full((5,), 3.0).log()
    )


def test_its_gradient_is_right_where_some_weights_are_zero(double_images):
    images = double_images(2, 3, 2, 2)
    assert torch.autograd.gradcheck(ClassMixture([1, 0, 2], Channels()), images)


def test_it_is_sound(rgb_policy):
    report = af.check_reward(ClassMixture([1, 0, 2], Channels()), rgb_policy)
    assert report.ok and report.differentiable, str(report)


REFUSED = {
    "too few": ([1, 2], "weights must be 3 numbers, got 2"),
    "negative": ([1, -1, 1], "each weight must be a finite number of at least 0, got -1"),
    "zero": ([0, 0, 0], "not all zero"),
    "NaN": ([float("nan"), 0, 1], "each weight must be a finite number of at least 0, got nan"),
    "a text": ("digits", "weights must be numbers or a mapping, got 'digits'"),
    "a label's": ({"1": -2}, "weight of 1 must be a finite number of at least 0, got -2"),
    "unknown": ({"7": 1}, "no label '7': known are 0, 1, 2"),
}


@pytest.mark.parametrize(("weights", "message"), REFUSED.values(), ids=REFUSED)
def test_weights_that_make_no_sense_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        ClassMixture(weights, Channels())


def test_attributes_are_no_classes():
    classifier = Channels()
    classifier.exclusive = False
    with pytest.raises(ValueError, match="needs a classifier of classes"):
        ClassMixture([1, 1, 1], classifier)
