"""A short name of a model's weights, by which what was learned for it knows it again."""

import hashlib

import torch
from torch import Tensor, nn

__all__ = ["digest"]

MOST = 256  # numbers of a tensor that are looked at, so that a large model is known at once
LENGTH = 16  # hexadecimal digits


def digest(model: nn.Module) -> str:
    """A hash of the names, shapes and some numbers of a model's tensors, on any device.

    Another training changes nearly all numbers; what has no tensors is known by its class alone.
    """
    found = hashlib.sha256(type(model).__name__.encode())
    for name, value in sorted(model.state_dict().items()):
        found.update(f"{name}{tuple(value.shape)}".encode())
        found.update(_some(value).numpy().tobytes())
    return found.hexdigest()[:LENGTH]


def _some(value: Tensor) -> Tensor:
    """Evenly spread entries of a tensor, in float64 on the CPU."""
    flat = value.detach().flatten()
    if flat.is_complex():
        flat = torch.view_as_real(flat).flatten()
    step = max(len(flat) // MOST, 1)
    return flat[::step].cpu().double()
