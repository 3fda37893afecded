"""Nothing mixes devices, and the host waits for one only where a number must be checked."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "devices"


def test_everything_runs_on_a_second_device():
    pytest.importorskip("torch.utils.backend_registration")
    command = [sys.executable, "-m", "pytest", "-q", "-x", str(FOLDER / "on_second_device.py")]
    command += ["-p", "no:cacheprovider", "--override-ini", f"pythonpath={FOLDER}"]
    done = subprocess.run(command, cwd=FOLDER.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
