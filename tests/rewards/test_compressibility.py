"""Compressibility: real file sizes, soundness, refusals."""

import io

import pytest
import torch
from PIL import Image

import alignflow as af
from alignflow.rewards import Compressibility

FLAT = torch.full((1, 3, 16, 16), 0.5)


def test_it_is_minus_the_size_of_the_file_in_kilobytes(noise_images):
    images = noise_images(3, 16, 16)
    file = io.BytesIO()
    pixels = (images[1] * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, "jpeg", quality=80)
    assert Compressibility()(images)[1].item() == pytest.approx(-len(file.getvalue()) / 1000)


# sizes of these very images; other versions of the encoders may differ by a few bytes
GOLDEN = {
    "flat color jpeg": (FLAT, {}, -0.629),
    "flat gray jpeg": (FLAT[:, :1], {}, -0.337),
    "flat color png": (FLAT, {"format": "png"}, -0.082),
}


@pytest.mark.parametrize(("images", "options", "golden"), GOLDEN.values(), ids=GOLDEN)
def test_golden_values(images, options, golden):
    assert Compressibility(**options)(images).item() == pytest.approx(golden, abs=0.01)


@pytest.mark.parametrize("format", ["jpeg", "png"])
def test_noise_is_larger_than_a_flat_image(format, noise_images):
    reward = Compressibility(format)
    assert reward(noise_images(3, 16, 16)).max() < reward(FLAT).item()


def test_a_lower_quality_is_smaller(noise_images):
    images = noise_images(1, 28, 28)
    assert (Compressibility(quality=20)(images) > Compressibility(quality=90)(images)).all()


@pytest.mark.parametrize("format", ["jpeg", "png"])
def test_it_is_sound(format, image_policy):
    report = af.check_reward(Compressibility(format), image_policy)
    assert report.ok and not report.differentiable and report.name == format, str(report)


@pytest.mark.parametrize(
    ("images", "found"),
    [(2 * FLAT - 2, "-1 to -1"), (FLAT * torch.nan, "nan to nan"), (FLAT * 255, "128 to 128")],
    ids=["state", "NaN", "bytes"],
)
def test_pixels_outside_of_zero_to_one_are_refused_and_not_clipped(images, found):
    with pytest.raises(af.RewardError, match=rf"takes pixels in \[0, 1\], got {found}"):
        Compressibility()(images)


REFUSED = {
    "format": ({"format": "gif"}, "format must be one of jpeg, png, got 'gif'"),
    "quality": ({"quality": 0}, "quality must be a whole number from 1 to 95, got 0"),
    "png": ({"format": "png", "quality": 80}, "a PNG has no quality"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Compressibility(**options)
