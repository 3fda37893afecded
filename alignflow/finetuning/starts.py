"""Where rollouts start: at noise, or on the path to samples of the base or to data."""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from alignflow.distillation import batches
from alignflow.interpolants import Linear

from .tuner import Tuner

__all__ = ["BASE_STEPS", "sample_starts"]

BASE_STEPS = 8


@torch.no_grad()
def sample_starts(tuner: Tuner, n: int, start: str, data: Any = None) -> TensorDict:
    """n starts under the tuner's keys: `state` (n, *E), `time` (n,) and `condition` (n, ...).

    Args:
        tuner: Whose base, conditions and generator are taken.
        n: Starts.
        start: "noise", or "path" for states x_t at random times.
        data: What the path leads to in place of the base's samples.
    """
    keys, condition = tuner.tensor_keys, tuner.draw_condition(n)
    state = tuner.base.noise(n, tuner.generator)
    time = state.new_zeros(n)
    if start == "path":
        endpoint, condition = _endpoints(tuner, n, data, condition)
        time = torch.rand(n, generator=tuner.generator).to(state)
        state = Linear().state(state, endpoint.to(state), time)
    batch = TensorDict({keys.state: state, keys.time: time}, batch_size=n)
    return batch if condition is None else batch.set(keys.condition, condition)


def _endpoints(tuner: Tuner, n: int, data: Any, condition: Any) -> tuple[Tensor, Any]:
    if data is None:
        sampled = tuner.base.sample(n, BASE_STEPS, condition, generator=tuner.generator)
        return sampled, condition
    batch = batches(data, n)(tuner.generator)
    return batch.get("data"), batch.get("condition", condition)
