"""Symmetry: golden values, gradient, soundness."""

import torch

import alignflow as af
from alignflow.rewards import Symmetry


def test_a_mirror_image_has_none_lacking_and_black_beside_white_all():
    stripes = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    images = stripes[:, None, None].expand(3, 3, 4, 4)
    assert Symmetry()(images).tolist() == [0.0, -1.0, -0.5]


def test_a_mirrored_image_has_the_same_reward(noise_images):
    images = noise_images(3, 7, 5)
    torch.testing.assert_close(Symmetry()(images), Symmetry()(images.flip(-1)))


def test_its_gradient_is_right(double_images):
    images = double_images(2, 1, 3, 5)
    assert torch.autograd.gradcheck(Symmetry(), images)


def test_it_is_sound(image_policy):
    report = af.check_reward(Symmetry(), image_policy)
    assert report.ok and report.differentiable, str(report)
