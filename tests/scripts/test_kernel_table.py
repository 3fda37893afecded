"""The table of compiled kernels is that of the kernels, and none spills."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_table_is_up_to_date_and_nothing_spills():
    triton = pytest.importorskip("triton")
    pinned = (ROOT / "constraints.txt").read_text()
    if f"triton=={triton.__version__}\n" not in pinned:
        pytest.skip("the table is of the Triton that is pinned")
    command = [sys.executable, "scripts/kernel_table.py", "--check"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
