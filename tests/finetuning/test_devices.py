"""Rollouts mix no devices, on fake tensors of a GPU; every tuner takes steps on a real one."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import alignflow as af
from alignflow.finetuning import METHODS, EndpointDistance, MapRollout, MemorylessRollout, PathKL
from alignflow.policies import MLP, FlowMapPolicy

N = 8


class Scale(nn.Module):
    """Elementwise, for a build without a GPU has no matrix product of fake tensors of one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty((), device="cuda"), requires_grad=False)

    def forward(self, x, s, t):
        return self.weight * x + (t - s).reshape(-1, 1)


@pytest.mark.parametrize("rollout", [MemorylessRollout(2), MapRollout(2)], ids=["sde", "map"])
@pytest.mark.parametrize("regularizer", [PathKL(), EndpointDistance()], ids=["kl", "distance"])
def test_rollouts_and_regularizers_stay_on_the_device_of_their_states(rollout, regularizer):
    with FakeTensorMode(), torch.no_grad():
        policy = FlowMapPolicy(Scale(), (2,))
        rows = {"state": torch.empty(N, 2, device="cuda"), "time": torch.empty(N, device="cuda")}
        rows = TensorDict(rows, batch_size=N)
        generator = torch.Generator().manual_seed(0)
        path = rollout(policy, rows["state"], rows["time"], None, generator)
        assert path.endpoint.device.type == "cuda"
        if isinstance(rollout, regularizer.accepts):
            assert regularizer(path, policy).device.type == "cuda"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("method", METHODS)
def test_every_tuner_takes_steps_on_a_gpu_with_a_generator_of_either_device(method, device, first):
    policy = FlowMapPolicy(MLP(1, width=8, depth=2), (1,)).cuda()
    quick = {"pool": 64} if METHODS[method].takes_stages else {}
    quick |= {"episodes": 8} if method == "grpo" else {}
    generator = torch.Generator(device).manual_seed(0)
    tuned = af.finetune(
        policy, first, method, 0.5, steps=8, batch_size=16, generator=generator, **quick
    )
    assert tuned.device.type == "cuda"
    assert any(
        not torch.equal(a, b) for a, b in zip(tuned.parameters(), policy.parameters(), strict=True)
    )
