"""Nothing mixes devices, and the host waits for one only where a number must be checked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent / "devices"


def run(device: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", str(FOLDER / "on_second_device.py")]
    command += ["-p", "no:cacheprovider", "--override-ini", f"pythonpath={FOLDER}"]
    environment = os.environ | {"ALIGNFLOW_DEVICE": device, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=FOLDER.parents[1], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-6000:]


def test_everything_runs_on_a_second_device():
    # torch has had what makes one since 2.10, as an experiment
    registration = pytest.importorskip("torch.utils.backend_registration")
    if not hasattr(registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch cannot be given a device written in Python")
    run("second")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_everything_runs_on_a_gpu():
    run("cuda")
