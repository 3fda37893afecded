"""Fixtures of several tests: one thread (so that runs repeat to the bit) and a seeded generator."""

import os
import sys
from pathlib import Path

import pytest
import torch

# read when a kernel is defined: without a GPU, Triton runs in Python
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    yield
    # environments in other processes leave their parent another number
    torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def cwd(tmp_path, monkeypatch) -> Path:
    """An empty working directory of a command line, where a `my_module` may be written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["alignflow"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("my_module", None)
    return tmp_path
