"""The judges: as good as their cards say, and apart from what is optimized."""

import json
import shutil

import pytest
import torch
from fuzzing.damage import sign

from alignflow import CheckpointError
from alignflow.data import ATTRIBUTES, CHARACTERS, Images, avatars_sample, digits
from alignflow.data.glyphs import draw as draw_glyph
from alignflow.policies import judges as module
from alignflow.policies.judges import JUDGES, Judge, load_judge
from alignflow.rewards import classifier


def pixels(images: Images) -> torch.Tensor:
    return images.pixels.float() / 255


def card(folder) -> dict:
    return json.loads((folder / "facts.json").read_text())["card"]


@pytest.fixture
def shipped_copy(tmp_path, monkeypatch):
    """A copy of the shipped folders, to be harmed."""
    shutil.copytree(module.FOLDER, tmp_path / "judges")
    monkeypatch.setattr(module, "FOLDER", tmp_path / "judges")
    return tmp_path / "judges"


@pytest.mark.parametrize(
    ("name", "labels"), [("avatars", ATTRIBUTES), ("digits", "0123456789"), ("glyphs", CHARACTERS)]
)
def test_labels_are_those_of_the_data_in_its_order(name, labels):
    assert load_judge(name).labels == tuple(labels)


def test_attributes_of_portraits_that_it_never_saw():
    sample = avatars_sample()
    found = load_judge("avatars")(pixels(sample)) > 0
    for index, name in enumerate(ATTRIBUTES):
        truth = sample.labels[name].bool()
        accuracy = (found[:, index] == truth).float().mean()
        # beards can be tinted like skin, and accessories hide behind hair
        assert accuracy >= (0.97 if name in ("beard", "accessories") else 0.99), name


@pytest.mark.parametrize("attribute", ["glasses", "hat", "happy", "long_hair"])
def test_the_card_states_a_balanced_accuracy_of_99_percent(attribute):
    measured = card(module.FOLDER / "avatars")["measured"][attribute]
    assert measured["balanced_accuracy"] >= 0.99


def test_digits_that_it_never_saw():
    images = digits("judge_test")
    found = load_judge("digits")(pixels(images)).argmax(1)
    accuracy = (found == images.labels["digit"]).float().mean()
    assert accuracy == pytest.approx(
        card(module.FOLDER / "digits")["measured"]["accuracy"], abs=0.002
    )
    assert accuracy >= 0.97


def test_glyphs_that_it_never_saw():
    drawn, labels = zip(*(draw_glyph(300_000 + number) for number in range(200)), strict=True)
    images = torch.stack([torch.from_numpy(image.copy()) for image in drawn]).float() / 255
    found = load_judge("glyphs")(images).argmax(1)
    assert (found == torch.tensor([int(label) for label in labels])).float().mean() >= 0.97


def test_logits_are_a_linear_reading_of_the_features():
    judge, images = load_judge("avatars"), pixels(avatars_sample())[:7]
    features = judge.features(images)
    assert features.shape == (7, judge.arguments["features"])
    torch.testing.assert_close(judge.last(features), judge(images))


def test_features_tell_noise_from_portraits():
    # the squared distance of means, of which a Frechet distance is made, against that of halves
    judge, images = load_judge("avatars"), pixels(avatars_sample())
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    noisy = judge.features((images + 0.3 * noise).clamp(0, 1)).mean(0)
    first, second = (judge.features(half).mean(0) for half in images.split(128))
    apart = (noisy - judge.features(images).mean(0)).square().sum()
    assert apart > 3 * (first - second).square().sum()


@pytest.mark.parametrize("name", JUDGES)
def test_judge_and_reward_share_neither_images_nor_seed_nor_architecture(name):
    judged, optimized = card(module.FOLDER / name), card(classifier.FOLDER / name)
    assert judged["learned_from"] != optimized["learned_from"]
    assert judged["measured_on"] not in (judged["learned_from"], optimized["learned_from"])
    assert judged["seed"] != optimized["seed"]

    def kinds(network):
        return {type(layer).__name__ for layer in network.modules() if not list(layer.children())}

    shared = kinds(load_judge(name)) & kinds(classifier.load_classifier(name))
    assert shared <= {"Conv2d", "Linear"}


def test_an_image_is_judged_as_it_is_alone():
    images, judge = pixels(avatars_sample())[:5], load_judge("avatars")
    alone = torch.cat([judge(image[None]) for image in images])
    torch.testing.assert_close(judge(images), alone, atol=1e-4, rtol=1e-4)


def test_a_judge_is_frozen():
    judge = load_judge("digits")
    assert not judge.training
    assert not any(parameter.requires_grad for parameter in judge.parameters())


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="no judge 'faces': known are avatars"):
        load_judge("faces")


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(N, 3, 16, 16\), got \(2, 1, 16, 16\)"):
        load_judge("avatars").features(torch.rand(2, 1, 16, 16))


def test_truncated_weights_are_refused(shipped_copy):
    file = shipped_copy / "avatars" / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated or altered"):
        load_judge("avatars")


def test_weights_that_do_not_fit_are_refused(shipped_copy):
    file = shipped_copy / "avatars" / "facts.json"
    facts = json.loads(file.read_text())
    facts["arguments"]["widths"] = [8, 16]
    file.write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match="does not fit Judge"):
        load_judge("avatars")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("features", 10**9), ("widths", [16_000, 16_000]), ("widths", [8] * 10_000)),
        *(("exclusive", "no"), ("dropout", 2.0), ("labels", [1] * 6), ("channels", None)),
    ],
    ids=["features", "wide", "deep", "exclusive", "dropout", "labels", "channels"],
)
def test_arguments_that_no_judge_takes_are_refused_though_they_are_signed(
    name, value, shipped_copy
):
    folder = shipped_copy / "avatars"
    facts = json.loads((folder / "facts.json").read_text())
    facts["arguments"][name] = value
    sign(folder, facts)
    with pytest.raises(CheckpointError, match=str(folder)):
        load_judge("avatars")


def test_sizes_that_do_not_halve_evenly_work():
    judge = Judge(["a"], channels=1, size=15, exclusive=False, widths=(4, 8), features=5).eval()
    assert judge(torch.rand(3, 1, 15, 15)).shape == (3, 1)
    assert judge.features(torch.rand(3, 1, 15, 15)).shape == (3, 5)
