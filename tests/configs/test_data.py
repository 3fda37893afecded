"""Every file of configs/data gives the data set that it names."""

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from PIL import Image

from alignflow.data import Images, Strings


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


@pytest.mark.parametrize(
    ("name", "overrides", "shape"),
    [
        ("names", [], (12, 27)),
        ("fragments", [], (24, 26)),
        ("molecules", ["data.n=9"], (44, 27)),
        ("sentences", ["data.split=test", "data.length=40"], (40, 33)),
        ("text", ["data.length=4"], (4, 4)),
    ],
)
def test_a_data_config_gives_its_strings(name, overrides, shape, tmp_path):
    if name in ("fragments", "molecules"):
        pytest.importorskip("selfies")
    (tmp_path / "lines.txt").write_text("ab\nabc\n")
    if name == "text":
        overrides = [*overrides, f"data.path={tmp_path / 'lines.txt'}"]
    with initialize_config_module("alignflow.configs", version_base=None):
        config = compose(overrides=[f"+data={name}", *overrides])
    strings = instantiate(config.data)
    assert isinstance(strings, Strings)
    assert strings.event_shape == shape
    assert strings.sample(2)["data"].shape == (2, *shape)
