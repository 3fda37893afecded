"""A steerer mixes no devices and waits for none: on tensors that refuse a mix, and have no numbers.

Fake tensors of a GPU need none: an operation on two devices raises, and so does looking at a
number. The model and the reward are those of a dry run, so that all else is what is tested.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import alignflow as af
from alignflow.cost import Cost

# a build without a GPU has neither its gradients nor its indexing, which resampling needs: what is
# left are the methods without either, and the transitions
GUIDED = {"posterior": "glass", "draws": 3, "value": "gradient_free"}
FREE = {
    "best_of_n": {},
    "importance": {},
    "mfm_gf": {"posterior": "glass"},
    "glass": {"transition": "heun"},
    **{
        f"custom, {transition}": GUIDED | {"transition": transition}
        for transition in ("flow_map", "euler")
    },
    **{
        f"custom, {transition}": {"transition": transition, "resampler": "importance"}
        for transition in ("glass", "sde", "anchored")
    },
}


class OnGPU(af.FlowMap):
    """A model on a GPU, of which a dry run asks for noise alone."""

    def noise(self, n, generator=None):
        return torch.empty(n, *self.event_shape, device="cuda")


def drawn(*shape, generator=None, dtype=None, device=None) -> torch.Tensor:
    """Random numbers by `empty`, the only way to make a fake tensor of a GPU that is not there."""
    sizes = shape[0] if isinstance(shape[0], tuple) else shape
    return torch.empty(sizes, dtype=dtype, device="cuda")


@pytest.mark.parametrize("name", FREE)
def test_a_step_stays_on_the_device_of_the_model_and_does_not_wait(name, monkeypatch):
    policy, method = af.from_flow_map(lambda x, s, t: x, (2, 3)), name.split(",")[0]
    steerers = [
        af.steer(policy, lambda x: x.flatten(1).sum(1), method, steps=3, **FREE[name])  # pyright: ignore
        for _ in range(2)
    ]
    expected = steerers[0].cost
    monkeypatch.setattr(torch, "randn", drawn)
    with FakeTensorMode():
        steerers[1].policy = OnGPU((2, 3))
        assert steerers[1].cost == expected != Cost()
