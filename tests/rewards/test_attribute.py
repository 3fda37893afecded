"""Attribute rewards, on a classifier whose probabilities are known."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import alignflow as af
from alignflow.rewards import Attribute, AttributeIndicator, AttributeLogProbability


class Tint(nn.Module):
    """Independent attributes with logit 10 (mean of a channel - 1/2)."""

    labels = ("red", "green", "blue")
    exclusive = False

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.scale(10.0)

    def scale(self, logit):
        nn.init.eye_(self.linear.weight).data.mul_(logit)
        nn.init.constant_(self.linear.bias, -logit / 2)

    def log_probabilities(self, images):
        return F.logsigmoid(self.linear(images.mean((2, 3))))


RED = torch.tensor([1.0, 0.0, 0.5])[None, :, None, None].expand(1, 3, 4, 4)
SURE = 1 / (1 + torch.tensor(-5.0).exp())


def test_the_three_forms_of_a_known_probability():
    for name, probability in {"red": SURE, "green": 1 - SURE, "blue": torch.tensor(0.5)}.items():
        likely = Attribute(name, Tint())(RED)
        torch.testing.assert_close(likely, probability[None])
        torch.testing.assert_close(AttributeLogProbability(name, Tint())(RED), likely.log())
        has = AttributeIndicator(name, classifier=Tint())(RED)
        assert has.item() == float(probability >= 0.5)


def test_a_threshold_is_a_probability():
    strict = AttributeIndicator("red", threshold=0.999, classifier=Tint())
    lenient = AttributeIndicator("red", threshold=0.99, classifier=Tint())
    assert (strict(RED).item(), lenient(RED).item()) == (0.0, 1.0)


def test_a_log_probability_does_not_saturate():
    dark = torch.zeros(1, 3, 4, 4)
    classifier = Tint()
    classifier.scale(1000.0)
    assert AttributeLogProbability("red", classifier)(dark).item() == pytest.approx(-500)


def test_their_names_tell_the_three_apart():
    rewards = [form("red", classifier=Tint()) for form in FORMS]
    assert [reward.name for reward in rewards] == ["red", "log_red", "has_red"]
    assert [reward.differentiable for reward in rewards] == [True, True, False]


FORMS = (Attribute, AttributeLogProbability, AttributeIndicator)


def test_gradients_are_right(double_images):
    images = double_images(2, 3, 2, 2)
    for form in (Attribute, AttributeLogProbability):
        assert torch.autograd.gradcheck(form("red", Tint().double()), images)


@pytest.mark.parametrize("form", FORMS)
def test_images_of_another_precision_are_scored(form):
    reward = form("red", classifier=Tint())
    torch.testing.assert_close(
        reward(RED.double()), reward(RED).double(), check_dtype=True, rtol=1e-6, atol=0
    )
    assert reward(RED.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("form", FORMS)
def test_they_are_sound(form, rgb_policy):
    report = af.check_reward(form("blue", classifier=Tint()), rgb_policy)
    assert report.ok, str(report)


@pytest.mark.parametrize("form", FORMS)
def test_an_unknown_attribute_is_refused_naming_the_known_ones(form):
    with pytest.raises(ValueError, match="no label 'beard': known are red, green, blue"):
        form("beard", classifier=Tint())


def test_a_module_that_is_no_classifier_is_refused():
    with pytest.raises(TypeError, match="Identity has no labels and no log_probabilities"):
        Attribute("red", nn.Identity())


@pytest.mark.parametrize("threshold", [0.0, 1.0, float("nan")])
def test_a_threshold_that_all_or_none_pass_is_refused(threshold):
    with pytest.raises(ValueError, match=r"threshold must be a fraction in \(0, 1\)"):
        AttributeIndicator("red", threshold, Tint())
