"""Attribute and class rewards on the shipped classifiers and real data."""

import math

import pytest
import torch

import alignflow as af
from alignflow.data import avatars_sample, digits
from alignflow.rewards import Attribute, AttributeIndicator, AttributeLogProbability, ClassMixture

FORMS = (Attribute, AttributeLogProbability, AttributeIndicator)


@pytest.fixture(scope="module")
def portraits():
    """256 portraits in [0, 1] and which of them wear glasses."""
    sample = avatars_sample()
    return sample.pixels.float() / 255, sample.labels["glasses"].bool()


def test_the_three_forms_tell_glasses(portraits):
    images, glasses = portraits
    probability, log_probability, verdict = (form("glasses")(images) for form in FORMS)
    assert probability[glasses].mean() > 0.97 and probability[~glasses].mean() < 0.03
    assert log_probability[glasses].mean() > log_probability[~glasses].mean() + 3
    assert (verdict.bool() == glasses).float().mean() > 0.98
    torch.testing.assert_close(log_probability.exp(), probability)


@pytest.mark.parametrize("form", FORMS)
def test_they_are_sound(form, rgb_policy):
    report = af.check_reward(form("glasses"), rgb_policy)
    assert report.ok and report.differentiable == (form is not AttributeIndicator), str(report)


def test_images_of_another_size_are_refused():
    with pytest.raises(af.RewardError, match=r"reward 'glasses' raised ValueError .*3, 16, 16"):
        Attribute("glasses")(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


def test_a_digit_is_an_attribute_too():
    sample = digits("judge_test")
    seven = Attribute("7", classifier="digits")(sample.pixels.float() / 255)
    assert seven[sample.labels["digit"] == 7].mean() > 0.9
    assert seven[sample.labels["digit"] != 7].mean() < 0.02


def test_the_mixture_of_digits_gives_each_class_its_weight():
    weights = torch.tensor([0, 1, 0, 1, 0, 2, 0, 2, 0, 4]) / 10
    sample = digits("judge_test")
    rewards = ClassMixture(weights.tolist())(sample.pixels.float() / 255)
    for digit, weight in enumerate(weights.tolist()):
        median = rewards[sample.labels["digit"] == digit].median().item()
        if weight:
            assert median == pytest.approx(math.log(weight), abs=0.05)
        else:
            assert median < math.log(0.1) - 1
