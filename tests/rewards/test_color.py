"""Color: golden values, gradient, soundness, refusals."""

import pytest
import torch

import alignflow as af
from alignflow.rewards import Color

RED, WHITE, BLACK = [1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]
FLAT = torch.tensor([RED, WHITE, BLACK])[:, :, None, None].expand(3, 3, 4, 6)


def test_distances_of_flat_colors_to_red():
    torch.testing.assert_close(Color(RED)(FLAT), torch.tensor([0.0, -2 / 3, -1 / 3]))


def test_only_the_mean_color_counts(noise_images):
    images = noise_images(3, 4, 6)
    flat = images.mean((2, 3), keepdim=True).expand_as(images)
    torch.testing.assert_close(Color([0.2, 0.4, 0.6])(images), Color([0.2, 0.4, 0.6])(flat))


def test_its_gradient_is_right(double_images):
    images = double_images(2, 3, 2, 3)
    assert torch.autograd.gradcheck(Color([0.2, 0.4, 0.6]), images)


def test_it_is_sound(rgb_policy):
    report = af.check_reward(Color(RED, name="redness"), rgb_policy)
    assert report.ok and report.differentiable and report.name == "redness", str(report)


def test_a_gray_image_has_no_color():
    with pytest.raises(af.RewardError, match=r"'color' raised .* with 3 channels, got .*1, 28, 28"):
        Color(RED)(torch.zeros(2, 1, 28, 28))


@pytest.mark.parametrize("rgb", [[1.0, 0.0], [255, 0, 0], [float("nan"), 0, 0], "red", 3], ids=str)
def test_what_is_no_color_is_refused(rgb):
    with pytest.raises(ValueError, match=r"rgb must be (three numbers|a fraction) in \[0, 1\]"):
        Color(rgb)
