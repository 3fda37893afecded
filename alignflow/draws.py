"""Random numbers of a generator on either device, for tensors on any.

They are drawn where the generator lives and then moved, so that a seed means the same numbers on
every device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["choices", "integers", "normal", "uniform"]

Device = torch.device | str


def normal(
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: Device = "cpu",
) -> Tensor:
    """Standard normal numbers, on `device`."""
    source = _source(generator, device)
    return torch.randn(shape, generator=generator, dtype=dtype, device=source).to(device)


def uniform(
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: Device = "cpu",
) -> Tensor:
    """Uniform numbers in [0, 1), on `device`."""
    source = _source(generator, device)
    return torch.rand(shape, generator=generator, dtype=dtype, device=source).to(device)


def integers(
    most: int,
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    device: Device = "cpu",
) -> Tensor:
    """Whole numbers from 0 to `most` - 1, int64, on `device`."""
    source = _source(generator, device)
    return torch.randint(most, shape, generator=generator, device=source).to(device)


def choices(probabilities: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """k independent choices (*B, k) by probabilities (*B, C), which need not sum to 1."""
    at_source = probabilities.to(_source(generator, probabilities.device))
    chosen = torch.multinomial(at_source, k, replacement=True, generator=generator)
    return chosen.to(probabilities.device)


def _source(generator: torch.Generator | None, device: Device) -> torch.device:
    return torch.device(device) if generator is None else generator.device
