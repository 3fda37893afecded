r"""Times by how much of a noised token can be decoded: for one-hot states of V tokens.

.. math:: q(t) = \mathbb{E}_z\, \Phi\big(z + \tfrac{t}{1-t}\big)^{V-1}, \qquad
    \tau(t) = \frac{V q(t) - 1}{V - 1}, \qquad z \sim \mathcal{N}(0, 1)

q is the probability that the largest coordinate of (1-t) x0 + t onehot is the token's; tau runs
from 0 to 1. A large vocabulary hides its tokens until late: uniform times are mostly lost on it.

Source: Flow Map Language Models (2602.16813), section on time reparametrization.
"""

import math
from typing import Self

import numpy as np
import torch
from torch import Tensor

from alignflow import checks
from alignflow.data import Infilling, Strings
from alignflow.draws import uniform

__all__ = ["DecodingTimes", "WarpedTimes", "decoded_fraction"]

NODES = 100  # of the quadrature
GRID = 10_000


def decoded_fraction(t: Tensor, vocabulary: int) -> Tensor:
    """tau(t), float64, of times of any shape.

    Args:
        t: Times in [0, 1].
        vocabulary: V, at least 2.
    """
    vocabulary = checks.count("vocabulary", vocabulary, least=2)
    nodes, weights = (
        torch.from_numpy(part).to(t.device) for part in np.polynomial.hermite_e.hermegauss(NODES)
    )
    signal = (t.double() / (1 - t.double()))[..., None]
    right = ((vocabulary - 1) * torch.special.log_ndtr(nodes + signal)).exp() @ weights
    return ((vocabulary * right / math.sqrt(2 * math.pi) - 1) / (vocabulary - 1)).clamp(0, 1)


class WarpedTimes:
    """Stratified times uniform in a tau(t), mixed with some uniform in t; pairs are two, sorted.

    Args:
        grid: Times from 0, increasing, (n,), float64.
        decoded: tau there, (n,), not decreasing.
        uniform_fraction: Fraction of rows whose times are uniform in t.
        boundary: Fraction of pairs set to the whole path (0, 1), which one-step sampling jumps.
    """

    def __init__(
        self, grid: Tensor, decoded: Tensor, uniform_fraction: float = 0.1, boundary: float = 0.0
    ):
        self.uniform_fraction = checks.fraction("uniform_fraction", uniform_fraction)
        self.boundary = checks.fraction("boundary", boundary)
        self.grid, self.decoded = grid, decoded

    def time(self, decoded: Tensor) -> Tensor:
        """The time t in [0, 1), float64, at which tau is what is given, in [0, 1)."""
        last = len(self.grid) - 1
        right = torch.searchsorted(self.decoded, decoded.double(), right=True).clamp(1, last)
        low, high = self.decoded[right - 1], self.decoded[right]
        step = torch.where(high > low, (decoded - low) / (high - low), 0.0).clamp(0, 1)
        return torch.lerp(self.grid[right - 1], self.grid[right], step)

    def diagonal(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Times (n,)."""
        return self._mixed(_stratified(n, generator)[None], generator)[0]

    def pairs(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Starts and ends, (n,) each."""
        order = uniform((n,), generator).argsort()
        drawn = torch.stack([_stratified(n, generator), _stratified(n, generator)[order]])
        s, t = self._mixed(drawn, generator).sort(dim=0).values
        whole = uniform((n,), generator) < self.boundary
        return s.masked_fill(whole, 0.0), t.masked_fill(whole, 1.0)

    def _mixed(self, drawn: Tensor, generator: torch.Generator | None) -> Tensor:
        """Of uniform numbers (k, n) the times, uniform in tau or, in some rows, in t."""
        plain = uniform((drawn.shape[1],), generator) < self.uniform_fraction
        time = torch.where(plain, drawn, self.time(drawn)).to(torch.get_default_dtype())
        return time.clamp_max(1 - torch.finfo(time.dtype).eps)


class DecodingTimes(WarpedTimes):
    """Times uniform in the fraction of tokens that their own position tells.

    Context tells a token before its own position does, so that some times must be early.

    Args:
        vocabulary: V.
        uniform_fraction: As in `WarpedTimes`.
        boundary: As in `WarpedTimes`.
    """

    def __init__(self, vocabulary: int, uniform_fraction: float = 0.1, boundary: float = 0.0):
        grid = torch.arange(GRID, dtype=torch.float64) / GRID
        decoded = decoded_fraction(grid, vocabulary).cummax(0).values
        super().__init__(grid, decoded, uniform_fraction, boundary)

    @classmethod
    def of(cls, data: Strings | Infilling, **options) -> Self:
        """Those of a data set of strings, by its vocabulary."""
        checks.offers("data", data, ("vocabulary",), "a data set of strings")
        return cls(data.vocabulary.size, **options)


def _stratified(n: int, generator: torch.Generator | None) -> Tensor:
    """Numbers (n,) in [0, 1), float64, one in each n-th."""
    return (torch.arange(n) + uniform((n,), generator, torch.float64)) / n
