"""What is installed from a wheel, away from the sources: the shipped models and a user's reward."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REWARD = """
import alignflow as af

@af.reward(differentiable=True)
def redness(images):
    return images[:, 0].mean((1, 2))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which a wheel of the working tree was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
    # setuptools leaves its traces where it builds
    left_out = shutil.ignore_patterns(".*", "outputs", "build", "dist", "__pycache__", "*.egg-info")
    sources = shutil.copytree(ROOT, folder / "sources", symlinks=True, ignore=left_out)
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, sources], check=True
    )
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site"


@pytest.fixture
def alignflow(installed, tmp_path):
    """Runs the installed command in an empty folder that is no part of the sources."""
    environment = os.environ | {"PYTHONPATH": str(installed), "NO_COLOR": "1", "COLUMNS": "200"}

    def run(*arguments, program=installed / "bin" / "alignflow"):
        options = {"cwd": tmp_path, "env": environment, "timeout": 300}
        return subprocess.run([program, *arguments], **options, capture_output=True, text=True)

    return run


def test_the_wheel_holds_every_room_and_no_stray_package(installed):
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {
        "alignflow",
        "bin",
    }
    for room in ("rewards", "policies", "envs", "configs"):
        assert (installed / "alignflow" / room).is_dir()
        assert not (installed / "alignflow" / room).is_symlink()


def test_what_is_imported_is_what_was_installed(alignflow, installed):
    code = "import alignflow, alignflow.rewards; print(alignflow.rewards.__file__)"
    found = alignflow("-c", code, program=sys.executable)
    assert Path(found.stdout.strip()).is_relative_to(installed), found.stderr


def test_a_custom_reward_steers_a_shipped_model_from_an_empty_folder(alignflow, tmp_path):
    (tmp_path / "my_module.py").write_text(REWARD)
    checked = alignflow("check-reward", "my_module:redness", "--policy", "avatars")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    steered = alignflow(
        *("steer", "avatars", "--reward", "my_module.redness", "-n", "2", "--steps", "2"),
        *("-o", "grid.png"),
    )
    assert steered.returncode == 0, steered.stdout + steered.stderr
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
