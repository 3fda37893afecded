"""The averaged weights of a training."""

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["ema"]


def ema(module: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of a module, with decay warm-up: min(decay, (1+n) / (10+n))."""

    def average(averaged: Any, current: Any, count: Any) -> None:
        # the model's counter is on the CPU: to read `count` would be to wait for a GPU
        n = int(model.n_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, count)

    model = AveragedModel(module, multi_avg_fn=average)
    return model
