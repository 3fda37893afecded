"""Every file of configs/data gives the data set that it names."""

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from PIL import Image

from alignflow.data import Images


@pytest.mark.parametrize(
    ("name", "overrides", "shape"),
    [
        ("avatars", ["data.n=3"], (3, 16, 16)),
        ("digits", [], (1, 28, 28)),
        ("glyphs", ["data.n=3"], (1, 28, 28)),
        ("folder", ["data.size=8"], (3, 8, 8)),
    ],
)
def test_a_data_config_gives_its_images(name, overrides, shape, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9), "red").save(tmp_path / "images" / "red.png")
    if name == "folder":
        overrides = [*overrides, f"data.path={tmp_path / 'images'}"]
    with initialize_config_module("alignflow.configs", version_base=None):
        config = compose(overrides=[f"+data={name}", *overrides])
    images = instantiate(config.data)
    assert isinstance(images, Images)
    assert images.event_shape == shape
    assert images.sample(2)["data"].shape == (2, *shape)
