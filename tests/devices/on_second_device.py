"""Steering, tuning, distilling, the environment and judging on a device that refuses a mix.

Each is run with a generator of the CPU and with one of the device. Run by `test_devices.py` in a
process of its own.
"""

from collections.abc import Iterator

import pytest
import torch
from second_device import DEVICE, SecondGenerator, second_device

import alignflow as af
from alignflow.policies import MLP, FlowMapPolicy

GENERATORS = {"cpu": torch.Generator, "device": SecondGenerator}


@af.reward(differentiable=True)
def first(endpoint):
    return endpoint[:, 0]


@pytest.fixture(params=GENERATORS)
def generator(request) -> torch.Generator:
    return GENERATORS[request.param]()


@pytest.fixture
def waits() -> Iterator[list[str]]:
    with second_device() as found:
        yield found


@pytest.fixture
def policy(waits) -> FlowMapPolicy:
    return FlowMapPolicy(MLP(2, width=8), (2,)).to(DEVICE)


@pytest.fixture
def posterior(waits) -> FlowMapPolicy:
    return FlowMapPolicy(MLP(2, width=8), (2,)).with_context().to(DEVICE)


def test_a_mix_of_devices_is_refused(waits):
    with pytest.raises(RuntimeError, match="aten::add mixes second:0 and cpu"):
        torch.ones(2, device=DEVICE) + torch.ones(2)


def test_a_generator_of_another_device_is_refused(waits):
    with pytest.raises(RuntimeError, match="of second:0 by a generator of cpu"):
        torch.randn(2, device=DEVICE, generator=torch.Generator())


def test_a_number_that_the_host_asks_for_is_noted(waits):
    torch.ones((), device=DEVICE).item()
    assert len(waits) == 1
