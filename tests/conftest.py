"""What several tests share: one thread (so that runs repeat to the bit) and a seeded generator."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    yield
    # environments in processes of their own leave their parent another number
    torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
