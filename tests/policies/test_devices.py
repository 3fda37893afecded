"""A policy mixes no devices and waits for none: on tensors that refuse a mix, and have no numbers.

Fake tensors of a GPU need none: an operation on two devices raises, and so does looking at a
number. A number of the network is drawn by `empty`, the only way to make one without the device.
"""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from alignflow.decoding import Image, Particles
from alignflow.flow_map import Guided
from alignflow.policies import FlowMapPolicy


class Scale(nn.Module):
    """Elementwise, for a build without a GPU has no matrix product of fake tensors of one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty((), device="cuda"), requires_grad=False)

    def forward(self, x, s, t, condition=None, context=None):
        shift = 0 if condition is None else condition.reshape(-1, *[1] * (x.ndim - 1))
        return self.weight * x + (t - s).reshape(-1, *[1] * (x.ndim - 1)) + shift


@pytest.fixture
def device():
    with FakeTensorMode(), torch.no_grad():
        yield "cuda"


@pytest.mark.parametrize("parametrization", ["average_velocity", "mean_denoiser"])
def test_jumps_and_velocities_stay_on_the_device_of_their_state(parametrization, device):
    policy = FlowMapPolicy(Scale(), (1, 2, 2), parametrization)
    x, t = torch.empty(3, 1, 2, 2, device=device), torch.empty(3, device=device)
    for time in (0.5, t):
        assert policy.flow_map(x, 0.25, time).device == policy.velocity(x, time).device == x.device
        assert policy.denoiser(x, time).device == x.device
    assert policy.noise(5).device == x.device


def test_guidance_stays_there_too(device):
    policy = FlowMapPolicy(Scale(), (2,))
    x, condition = torch.empty(3, 2, device=device), torch.empty(3, device=device)
    assert Guided(policy, 2.0).flow_map(x, 0.0, 1.0, condition).device == x.device
    policy.module.null_condition = -1.0
    guided = Guided(policy, 2.0)
    assert guided.model.null_condition == -1.0
    rows = policy.condition_rows(condition, 3)
    assert rows.device == x.device


def test_posterior_draws_stay_there_too(device):
    policy = FlowMapPolicy(Scale(), (2,), stochastic=True, data_std=0.5)
    noise, x = torch.empty(3, 4, 2, device=device), torch.empty(3, 2, device=device)
    assert policy.posterior_flow(noise, x, 0.5).shape == noise.shape


def test_states_are_decoded_where_they_are(device):
    assert Image()(torch.empty(3, 1, 2, 2, device=device)).device.type == device


class Weighted(Particles):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))


def test_a_decoder_goes_where_its_policy_goes():
    policy = FlowMapPolicy(nn.Identity(), (2, 3), decode=Weighted())
    assert policy.to("meta").decoder.weight.device.type == "meta"
    assert not list(policy.parameters()) and not policy.state_dict()
