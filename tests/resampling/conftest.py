"""Particles that a resampler has weighed once."""

import pytest
import torch
from tensordict import TensorDict


@pytest.fixture
def weighed():
    """A callable `(values, node, **more)`: the particles after one step of the node."""

    def step(values, node, **more) -> TensorDict:
        rows = len(values)
        tensordict = TensorDict({"value": values, **more}, batch_size=[rows])
        tensordict["state"] = torch.arange(rows, dtype=torch.float64)[:, None]
        tensordict.setdefault("time", torch.full((rows,), 0.5, dtype=torch.float64))
        node.draw(tensordict, torch.Generator().manual_seed(0))
        return node(tensordict)

    return step
