"""A folder of images: what is read, how it is labelled, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from alignflow.data import image_folder


def write(path, color, size=(8, 8), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)


def test_pixels_come_back_as_written(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    images = image_folder(tmp_path, size=8)
    assert images.pixels.shape == (1, 3, 8, 8)
    assert torch.equal(images.pixels[0], torch.from_numpy(pixels).permute(2, 0, 1))
    assert images.condition is None and not images.labels


def test_subfolders_are_classes_in_alphabetical_order(tmp_path):
    write(tmp_path / "cats" / "b.jpg", "red")
    write(tmp_path / "cats" / "a.PNG", "red")
    write(tmp_path / "ants" / "c.jpeg", "blue")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".thumbnails").mkdir()
    images = image_folder(tmp_path, size=4)
    assert images.condition == "class"
    assert images.labels["class"].tolist() == [0, 1, 1]
    assert images.pixels[0, 2].min() > 200 and images.pixels[1, 0].min() > 200


def test_images_are_cropped_to_their_middle_and_resized(tmp_path):
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 8:22] = 255  # the middle square and what its interpolation may reach
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert image_folder(tmp_path, size=5).pixels.min() == 255


def test_transparency_becomes_white_and_gray_has_one_channel(tmp_path):
    write(tmp_path / "clear.png", (0, 0, 0, 0), mode="RGBA")
    images = image_folder(tmp_path, size=6, channels=1)
    assert images.pixels.shape == (1, 1, 6, 6)
    assert images.pixels.min() == 255


def test_photographs_are_turned_as_their_camera_was_held(tmp_path):
    image = Image.fromarray(np.array([[0, 255]], dtype=np.uint8).repeat(8, 0).repeat(4, 1))
    exif = image.getexif()
    exif[0x0112] = 3  # held upside down
    image.save(tmp_path / "photo.jpg", exif=exif, quality=100)
    pixels = image_folder(tmp_path, size=8, channels=1).pixels[0, 0].float()
    assert pixels[:, :3].mean() > 200 and pixels[:, 5:].mean() < 50


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="missing is no folder"):
        image_folder(tmp_path / "missing", size=8)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(ValueError, match="holds no images"):
        image_folder(tmp_path, size=8)


def test_images_beside_classes_are_refused(tmp_path):
    write(tmp_path / "loose.png", "red")
    write(tmp_path / "cats" / "a.png", "red")
    with pytest.raises(ValueError, match=r"loose.png, ...\) beside folders of images \(cats"):
        image_folder(tmp_path, size=8)


@pytest.mark.parametrize("harm", ["truncated", "text"])
def test_a_file_that_is_no_image_is_named(tmp_path, harm):
    write(tmp_path / "good.png", "red")
    if harm == "truncated":
        noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "whole.png")
        (tmp_path / "bad.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    else:
        (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(ValueError, match="bad.png cannot be read as an image"):
        image_folder(tmp_path, size=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"size": 0}, "at least 1, got 0"), ({"size": 8, "channels": 4}, "1 or 3, got 4")],
)
def test_sizes_and_channels_that_make_no_sense_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        image_folder(tmp_path, **arguments)


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_of_sixteen_bits_keeps_its_levels(tmp_path, channels):
    levels = np.array([[0, 257, 30_000], [128 * 257, 65_278, 65_535]], dtype=np.uint16)
    Image.fromarray(levels.repeat(2, 0).repeat(2, 1)[:4, :4]).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as opened:
        assert opened.mode.startswith("I")
    pixels = image_folder(tmp_path, size=4, channels=channels).pixels[0]
    assert pixels[:, 0, 0].tolist() == [0] * channels and pixels[:, 0, 2].tolist() == [1] * channels
    assert pixels[:, 2, 0].tolist() == [128] * channels
    assert pixels[:, 2, 2].tolist() == [254] * channels
