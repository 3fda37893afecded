"""OCR with its real weights: golden values, alignments, soundness, refusals."""

import itertools
import sys
from importlib.util import find_spec

import pytest
import torch

import alignflow as af
from alignflow.rewards import OCR, Color
from alignflow.rewards.ocr import _probability, _recognizer, ocr_probability

# found and not imported: only its weights are used, and its code wants OpenCV
installed = pytest.mark.skipif(
    not (find_spec("rapidocr_onnxruntime") and find_spec("onnxruntime")),
    reason="needs alignflow[ocr]",
)


@installed
def test_golden_values(glyphs):
    images = glyphs("A7BOR")
    golden = {"A": 0.985, "7": 0.869, "B": 0.997, "O": 0.053, "R": 0.991}
    for place, (text, probability) in enumerate(golden.items()):
        rewards = OCR(text)(images)
        assert rewards[place].item() == pytest.approx(probability, abs=0.02)
        assert rewards.sum() - rewards[place] < 0.01


@installed
def test_dark_on_light_and_light_on_dark_gray_and_rgb_are_read_alike(glyphs):
    images = glyphs("7BK")
    for text, place in ("7", 0), ("B", 1), ("K", 2):
        probability = OCR(text)(images)[place]
        assert (OCR(text)(1 - images)[place] - probability).abs() < 0.05
        torch.testing.assert_close(
            OCR(text)(images.expand(-1, 3, -1, -1))[place], probability, rtol=1e-4, atol=1e-4
        )


@installed
def test_golden_value_of_a_color_image(glyphs):
    paper, blue = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    ink = 1 - glyphs("7")
    image = torch.lerp(paper[:, None, None], blue[:, None, None], ink)
    # with red and blue swapped it would be 0.92
    assert OCR("7")(image).item() == pytest.approx(0.54, abs=0.05)


@installed
def test_a_word_is_read(glyphs):
    image = torch.cat(list(glyphs("THE")[..., 4:24]), dim=-1)[None]
    assert OCR("THE")(image).item() > 0.5
    assert OCR("TEH")(image).item() < 0.01


@installed
def test_noise_is_not_read(noise_images):
    assert OCR("7")(noise_images(1, 28, 28)).max() < 0.01


@installed
def test_a_batch_is_read_alike_in_chunks(glyphs, monkeypatch):
    images = glyphs("7B7B7")
    whole = ocr_probability(images, "7")
    monkeypatch.setattr("alignflow.rewards.ocr.CHUNK", 2)
    torch.testing.assert_close(ocr_probability(images, "7"), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("text", [[1], [1, 2], [1, 1], [2, 1, 2]], ids=str)
def test_the_probability_is_the_sum_over_alignments(text):
    generator = torch.Generator().manual_seed(0)
    places = torch.rand((5, 2, 3), generator=generator, dtype=torch.float64).log_softmax(-1)
    expected = torch.zeros(2, dtype=torch.float64)
    for path in itertools.product(range(3), repeat=5):
        collapsed = [label for label, _ in itertools.groupby(path) if label != 0]
        if collapsed == text:
            expected += places[torch.arange(5), :, torch.tensor(path)].sum(0).exp()
    torch.testing.assert_close(_probability(places, torch.tensor(text)), expected)


@installed
def test_it_is_sound(image_policy):
    report = af.check_reward(OCR("7"), image_policy)
    assert report.ok and not report.differentiable and report.name == "ocr_7", str(report)


@installed
@pytest.mark.parametrize("level", [-1.0, float("nan"), 255.0])
def test_pixels_outside_of_zero_to_one_are_refused(level):
    with pytest.raises(af.RewardError, match=r"'ocr_7' raised ValueError .* pixels in \[0, 1\]"):
        OCR("7")(torch.full((1, 1, 28, 28), level))


@installed
def test_a_sum_with_a_differentiable_reward_is_a_sound_black_box(rgb_policy):
    mixed = af.Sum({"red": (Color([1.0, 0.0, 0.0]), 1.0), "ocr": (OCR("7"), 0.5)})
    report = af.check_reward(mixed, rgb_policy)
    assert report.ok and not report.differentiable, str(report)


@installed
def test_a_text_too_long_for_the_image_is_refused_and_not_just_impossible(glyphs):
    with pytest.raises(af.RewardError, match="7 characters needs 8 places, .* they have 6"):
        OCR("ALLOWED")(glyphs("A"))


@installed
@pytest.mark.parametrize(("text", "named"), [("", "''"), ("A\u0001", r"'\\x01'")], ids=repr)
def test_a_text_that_cannot_be_read_is_refused(text, named):
    with pytest.raises(ValueError, match=f"characters that the recognizer knows, got .*{named}"):
        OCR(text)


@pytest.mark.parametrize("package", ["rapidocr_onnxruntime", "onnxruntime"])
def test_a_missing_package_names_the_extra(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    _recognizer.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'alignflow\[ocr\]'"):
        OCR("7")
