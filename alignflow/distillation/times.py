r"""Where on the path a batch is trained: times of the diagonal and pairs off it.

Each sampler draws `diagonal(n)`, times (n,), and `pairs(n)`, starts and ends (n,), (n,).
"""

from typing import Protocol

import torch
from torch import Tensor

from alignflow import checks
from alignflow.draws import normal, uniform

__all__ = ["EarlyTimes", "LogitNormalTimes", "Times", "UniformTimes"]


class Times(Protocol):
    """A sampler of times, on the generator's device."""

    def diagonal(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Times (n,)."""
        ...

    def pairs(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Starts and ends, (n,) each."""
        ...


class UniformTimes:
    """Diagonal times uniform on [0, 1); pairs uniform on the triangle s <= t.

    Args:
        boundary: Fraction of pairs set to the whole path (0, 1), which one-step sampling jumps.
        both_directions: Whether half of the pairs run from data to noise, which trains the inverse.
    """

    def __init__(self, boundary: float = 0.0, both_directions: bool = False):
        self.boundary = checks.fraction("boundary", boundary)
        self.both_directions = checks.flag("both_directions", both_directions)

    def diagonal(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return uniform((n,), generator)

    def pairs(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        s, t = uniform((2, n), generator).sort(dim=0).values
        whole = uniform((n,), generator) < self.boundary
        s, t = s.masked_fill(whole, 0.0), t.masked_fill(whole, 1.0)
        if self.both_directions:
            turned = uniform((n,), generator) < 0.5
            s, t = torch.where(turned, t, s), torch.where(turned, s, t)
        return s, t


class LogitNormalTimes(UniformTimes):
    """Diagonal times by the logistic function of a normal: more of the middle; pairs uniform.

    Args:
        mean: Of the normal; above 0 favors times near the data.
        std: Of the normal.
        boundary: As in `UniformTimes`.
        both_directions: As in `UniformTimes`.

    Source: Esser et al. 2024 (2403.03206), equation 19.
    """

    def __init__(self, mean=0.0, std=1.0, boundary: float = 0.0, both_directions: bool = False):
        super().__init__(boundary, both_directions)
        self.mean, self.std = checks.finite("mean", mean), checks.nonnegative("std", std)

    def diagonal(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        time = torch.sigmoid(self.mean + self.std * normal((n,), generator))
        # far out it rounds to 1, where a velocity may be 0/0
        return time.clamp_max(1 - torch.finfo(time.dtype).eps)


class EarlyTimes(UniformTimes):
    """Diagonal times by squares of uniforms: more of the beginning; pairs uniform.

    Args:
        zero: Fraction of the diagonal times set to 0.
        boundary: As in `UniformTimes`.
        both_directions: As in `UniformTimes`.
    """

    def __init__(self, zero: float = 0.0, boundary: float = 0.0, both_directions: bool = False):
        super().__init__(boundary, both_directions)
        self.zero = checks.fraction("zero", zero)

    def diagonal(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        time = uniform((n,), generator).square()
        return time.masked_fill(uniform((n,), generator) < self.zero, 0.0)
