"""Random numbers of a generator on either device, for tensors on any.

They are drawn where the generator lives and then moved, so that a seed means the same numbers on
every device. Without a generator they are drawn on the device where they are wanted.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["choices", "integers", "normal", "uniform"]

Device = torch.device | str | None
"""Where numbers are wanted; None is where they are drawn."""


def normal(
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
) -> Tensor:
    """Standard normal numbers."""
    source = device if generator is None else generator.device
    drawn = torch.randn(shape, generator=generator, dtype=dtype, device=source)
    return drawn if device is None else drawn.to(device)


def uniform(
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
) -> Tensor:
    """Uniform numbers in [0, 1)."""
    source = device if generator is None else generator.device
    drawn = torch.rand(shape, generator=generator, dtype=dtype, device=source)
    return drawn if device is None else drawn.to(device)


def integers(
    most: int,
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    device: Device = None,
) -> Tensor:
    """Whole numbers from 0 to `most` - 1, int64."""
    source = device if generator is None else generator.device
    drawn = torch.randint(most, shape, generator=generator, device=source)
    return drawn if device is None else drawn.to(device)


def choices(probabilities: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """k independent choices (*B, k) by probabilities (*B, C), which need not sum to 1."""
    at_source = probabilities if generator is None else probabilities.to(generator.device)
    chosen = torch.multinomial(at_source, k, replacement=True, generator=generator)
    return chosen.to(probabilities.device)
