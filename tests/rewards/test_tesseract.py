"""Tesseract as a judge: what it reads, that it is sound, what it refuses."""

import shutil

import pytest
import torch

import alignflow as af
from alignflow.rewards import Tesseract, tesseract_read

installed = pytest.mark.skipif(shutil.which("tesseract") is None, reason="needs tesseract")


@installed
def test_plain_glyphs_are_read_in_either_polarity_and_in_color(glyphs):
    images = glyphs("A7BKR")
    for seen in (images, 1 - images, images.expand(-1, 3, -1, -1)):
        assert tesseract_read(seen) == ["A", "7", "B", "K", "R"]


@installed
def test_light_on_dark_is_judged_exactly_like_dark_on_light(glyphs):
    # Tesseract's own inversion reads these two otherwise
    images = glyphs("IU")
    assert tesseract_read(images) == tesseract_read(1 - images)


@installed
def test_an_empty_page_is_the_empty_text_and_shifts_no_other(glyphs):
    images = torch.cat([glyphs("A"), torch.ones(1, 1, 28, 28), glyphs("B")])
    assert tesseract_read(images) == ["A", "", "B"]


@installed
def test_the_reward_is_whether_the_text_was_read(glyphs):
    assert Tesseract("7")(glyphs("A7B")).tolist() == [0.0, 1.0, 0.0]


@installed
def test_a_word_is_read(glyphs):
    image = torch.cat(list(glyphs("THE")[..., 4:24]), dim=-1)[None]
    assert Tesseract("THE")(image).tolist() == [1.0]


@installed
def test_it_is_sound(image_policy):
    report = af.check_reward(Tesseract("7"), image_policy, n=2)
    assert report.ok and not report.differentiable and report.name == "tesseract_7", str(report)


@pytest.mark.parametrize("text", ["", "a", "É"], ids=repr)
def test_a_text_outside_of_the_alphabet_is_refused(text):
    with pytest.raises(ValueError, match="text must be of the characters ABC"):
        Tesseract(text)


@installed
def test_an_unknown_content_is_refused(glyphs):
    with pytest.raises(ValueError, match="content must be one of character, word, got 'page'"):
        tesseract_read(glyphs("A"), content="page")


def test_a_missing_program_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="no program `tesseract` .* apt install tesseract-ocr"):
        Tesseract("7")
