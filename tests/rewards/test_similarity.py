"""Similarity: golden values, files, gradient, soundness, refusals."""

import numpy as np
import pytest
import torch
from PIL import Image

import alignflow as af
from alignflow.rewards import Similarity
from alignflow.rewards.similarity import read_image


def test_distances_to_a_gray_image():
    images = torch.stack([torch.full((1, 4, 6), level) for level in (0.0, 0.25, 1.0)])
    assert Similarity(torch.full((1, 4, 6), 0.25))(images).tolist() == [-0.0625, 0.0, -0.5625]


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 5, 7)], ids=["RGB", "gray"])
def test_an_image_may_come_from_a_file(tmp_path, noise_images, shape):
    pixels = (noise_images(*shape)[0] * 255).round().byte()
    array = pixels[0].numpy() if shape[0] == 1 else pixels.permute(1, 2, 0).numpy()
    Image.fromarray(array).save(tmp_path / "mine.png")
    rewards = Similarity(tmp_path / "mine.png")(noise_images(*shape))
    torch.testing.assert_close(rewards, Similarity(pixels / 255)(noise_images(*shape)))
    assert rewards.argmax() == 0


def test_the_transparent_part_of_a_file_is_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert Similarity(str(tmp_path / "clear.png"))(torch.ones(1, 3, 4, 4)).item() == 0


def test_its_gradient_is_right(double_images):
    images = double_images(2, 1, 3, 5)
    assert torch.autograd.gradcheck(Similarity(torch.full((1, 3, 5), 0.5)), images)


def test_it_is_sound(image_policy):
    report = af.check_reward(Similarity(torch.full(image_policy.event_shape, 0.5)), image_policy)
    assert report.ok and report.differentiable, str(report)


def test_images_of_another_size_are_refused():
    with pytest.raises(
        af.RewardError, match=r"image of shape \(3, 4, 4\), got images \(1, 3, 8, 8\)"
    ):
        Similarity(torch.zeros(3, 4, 4))(torch.zeros(1, 3, 8, 8))


def test_what_is_no_image_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"image must be of shape \(C, H, W\), got \(4, 4\)"):
        Similarity(torch.zeros(4, 4))
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        Similarity(tmp_path / "nowhere.png")


def test_an_image_of_sixteen_bits_keeps_its_levels(tmp_path):
    levels = np.array([[0, 128 * 257], [257, 65_535]], dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    seen = (read_image(tmp_path / "deep.png") * 255).round()
    assert seen.tolist() == [[[0, 128], [1, 255]]]
