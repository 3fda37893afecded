"""Every reward config composes and makes the reward that it names."""

from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

import alignflow.configs
from alignflow.reward_module import Reward, Sum

NAMES = sorted(path.stem for path in Path(alignflow.configs.__file__).parent.glob("reward/*.yaml"))
NAMES.remove("custom")  # which names no target: its user does
NEEDS = {
    "ocr": find_spec("onnxruntime") and find_spec("rapidocr_onnxruntime"),
    "tesseract": which("tesseract"),
    "sentiment": find_spec("vaderSentiment"),
}
MOLECULES = {"logp", "molecule_similarity", "qed", "substructure", "synthesizability"}
NEEDS |= dict.fromkeys(MOLECULES, find_spec("rdkit"))
TEXTS = {"length", "letters", "pattern", "prefix", "sentiment"}
BLACK_BOXES = {
    "at_least",
    "has_glasses",
    "jpeg",
    "ocr",
    "png",
    "sum",
    "tesseract",
    *TEXTS,
    *MOLECULES,
}


def made(name, *overrides):
    with initialize_config_module("alignflow.configs", version_base=None):
        config = compose(overrides=[f"+reward={name}", *overrides])
    return instantiate(config.reward)


@pytest.mark.parametrize("name", NAMES)
def test_a_reward_config_makes_a_reward(name, tmp_path):
    if not NEEDS.get(name, True):
        pytest.skip(f"what {name} needs is not installed")
    from PIL import Image

    Image.new("RGB", (16, 16)).save(tmp_path / "mine.png")
    overrides = [f"reward.image={tmp_path}/mine.png"] if name == "similarity" else []
    reward = made(name, *overrides)
    assert isinstance(reward, Reward)
    assert reward.differentiable == (name not in BLACK_BOXES)


def test_a_sum_from_a_config_weighs_its_terms():
    reward = made("sum")
    assert isinstance(reward, Sum)
    images = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    parts = {name: term(images) for name, term in reward.terms.items()}
    torch.testing.assert_close(reward(images), parts["red"] + 0.5 * parts["small"])
