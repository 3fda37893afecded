"""Rewards of installed packages, by real entry points of a package on the path."""

import pytest

from alignflow.rewards import Brightness, installed


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package of some name that offers rewards, lines `name = module:object`."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name, *offers):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "\n".join(["[alignflow.rewards]", *offers])
        (folder / "entry_points.txt").write_text(lines)

    return install


def test_rewards_of_packages_are_found_by_name(package):
    package("bright", "shine = alignflow.rewards:Brightness")
    assert installed()["shine"] is Brightness


def test_a_reward_that_does_not_load_names_its_package(package):
    package("broken", "shine = alignflow.rewards:Missing")
    with pytest.raises(
        ImportError, match="reward 'shine' of broken cannot be loaded from .*Missing"
    ):
        installed()


def test_two_packages_with_one_name_are_refused(package):
    package("one", "shine = alignflow.rewards:Brightness")
    package("two", "shine = alignflow.rewards:Symmetry")
    with pytest.raises(ValueError, match="two installed packages offer a reward 'shine'"):
        installed()
