r"""How far data lie from the denoiser, by time: what a Gaussian step must have of noise.

.. math:: e_t = \frac{1}{1-t} \sqrt{\mathbb{E}\, \lvert x_1 - D_t(x_t) \rvert^2 / D}

of D dimensions. A step that holds x_1 at the denoiser lacks this variance. One normal for all data
has too much of it where data have modes, for the denoiser knows the mode long before the end.
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from alignflow.conditions import cycled
from alignflow.draws import normal
from alignflow.flow_map import FlowMap
from alignflow.interpolants import denoiser_from_velocity
from alignflow.modes import evaluating
from alignflow.precision import full_precision

__all__ = ["DenoiserError", "NormalError"]

SAMPLES = 1024
TIMES = 16
JUMPS = 8  # of the base, for a sample


class NormalError:
    """That of normal data.

    Args:
        data_std: Their standard deviation.
    """

    def __init__(self, data_std: float):
        self.data_std = data_std

    def __call__(self, t: Tensor) -> Tensor:
        """e, (N,), at times (N,)."""
        return self.data_std / torch.hypot(self.data_std * t, 1 - t)


class DenoiserError:
    """That of a model on its own samples, measured when first asked for, from noise of its own.

    Args:
        model: The model.
        condition: Conditions, rows (C, ...), cycled; None for none.
    """

    def __init__(self, model: FlowMap, condition: Any = None):
        self.model, self.condition = model, condition

    def __call__(self, t: Tensor) -> Tensor:
        """e, (N,), at times (N,)."""
        place = (t * TIMES).clamp(0, TIMES)
        left = place.long().clamp_max(
            TIMES - 2
        )  # the last is before time 1, and goes on from there
        values = self.values.to(t)
        return torch.lerp(values[left], values[left + 1], place - left).clamp_min(0)

    @cached_property
    @torch.no_grad()
    def values(self) -> Tensor:
        """e at the times 0, 1/16, ... 15/16."""
        model, generator = self.model, torch.Generator().manual_seed(0)
        condition = cycled(self.condition, SAMPLES, model.device)
        with evaluating(model), full_precision(model.device):
            data = model.sample(SAMPLES, JUMPS, condition, generator=generator)
            found = []
            for k in range(TIMES):
                t = data.new_full((SAMPLES,), k / TIMES)
                noise = normal(data.shape, generator, data.dtype, data.device)
                state = torch.lerp(noise, data, k / TIMES)
                denoised = denoiser_from_velocity(state, t, model.velocity(state, t, condition))
                found.append((data - denoised).square().mean().sqrt() / (1 - k / TIMES))
        return torch.stack(found)
