"""A user's project under a type checker, from an editable install as from a wheel."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
import alignflow as af

policy = af.load("avatars")
for name, line in af.steer.methods().items():
    print(f"{name}: {line}", af.steer.options(name)["transition"].meaning)
steerer = af.steer(policy, lambda x: x.sum(), "fmtt", strength=2.0, particles=4)
state = steerer.sample(4)["state"]
tuned = af.finetune(policy, lambda x: x.sum(), "weighted", steps=10)
tuned.save("tuned")
print(af.finetune.methods()["weighted"])
"""
TYPO = 'import alignflow as af\naf.steer(af.load("ring"), len, "fmt")\n'


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What an editable install puts into site-packages."""
    folder = tmp_path_factory.mktemp("editable")
    left_out = shutil.ignore_patterns(".*", "outputs", "build", "dist", "__pycache__", "*.egg-info")
    sources = shutil.copytree(ROOT, folder / "sources", symlinks=True, ignore=left_out)
    build = f"from setuptools.build_meta import build_editable; build_editable({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=sources, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def check(folder: Path, site: Path, program: str) -> dict:
    """What pyright says of a program whose only way to the library is that path."""
    (path,) = site.glob("*.pth")
    (folder / "program.py").write_text(program)
    settings = {"extraPaths": [path.read_text().strip()], "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_an_editable_install_is_a_path_and_says_that_it_is_typed(site):
    (path,) = site.glob("*.pth")
    installed = Path(path.read_text().strip())
    assert (installed / "alignflow" / "py.typed").exists()


def test_what_a_user_writes_passes_and_a_typo_does_not(site, tmp_path):
    found = check(tmp_path, site, PROGRAM)
    assert found["summary"]["errorCount"] == 0, found["generalDiagnostics"]
    assert found["summary"]["filesAnalyzed"] == 1
    found = check(tmp_path, site, TYPO)
    (said,) = found["generalDiagnostics"]
    assert 'parameter "method"' in said["message"]
