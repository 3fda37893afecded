"""The averaged weights of a training."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["ema"]


def ema(module: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of a module, with decay warm-up: min(decay, (1+n) / (10+n))."""

    def average(averaged: list[Tensor], current: list[Tensor], count: Any) -> None:
        # the model's counter is on the CPU: to read `count` would be to wait for a GPU
        n = int(model.n_averaged)
        # the others are frozen integers, such as quantized weights
        if averaged[0].is_floating_point() or averaged[0].is_complex():
            weight = 1 - min(decay, (1 + n) / (10 + n))
            torch._foreach_lerp_(averaged, current, weight)  # pyright: ignore

    model = AveragedModel(module, multi_avg_fn=cast(Any, average))
    return model
