"""Brightness: golden values, gradient, refusals."""

import pytest
import torch

import alignflow as af
from alignflow.rewards import Brightness


def test_black_is_zero_white_is_one_and_half_is_half():
    images = torch.stack([torch.full((3, 4, 6), level) for level in (0.0, 0.5, 1.0)])
    assert Brightness()(images).tolist() == [0.0, 0.5, 1.0]


def test_its_gradient_is_the_same_for_every_pixel(double_images):
    images = double_images(2, 1, 3, 5)
    (gradient,) = torch.autograd.grad(Brightness()(images).sum(), images)
    torch.testing.assert_close(gradient, torch.full_like(images, 1 / 15))


def test_it_is_sound(image_policy):
    report = af.check_reward(Brightness(), image_policy)
    assert report.ok and report.differentiable, str(report)


REFUSED = {
    "two channels": torch.zeros(1, 2, 4, 4),
    "one image": torch.zeros(3, 4, 4),
    "points": torch.zeros(5, 2),
    "bytes": torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
}


@pytest.mark.parametrize("images", REFUSED.values(), ids=REFUSED)
def test_what_is_no_batch_of_images_is_refused(images):
    with pytest.raises(
        af.RewardError, match=r"'brightness' raised ValueError .* takes float images"
    ):
        Brightness()(images)


def test_texts_are_refused():
    with pytest.raises(af.RewardError, match=r"takes float images .* got list"):
        Brightness().score(torch.zeros(2, 3), decode=lambda x: ["a", "b"])
