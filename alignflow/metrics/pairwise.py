r"""Statistics over all pairs of samples: kernel distances and diversity, without bias.

.. math:: D_k = \frac{1}{n(n-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{m(m-1)} \sum_{i \ne j}
    k(y_i, y_j) - \frac{2}{nm} \sum_{i,j} k(x_i, y_j)

The squared MMD is D_k of a Gaussian kernel, the energy distance D_k of k(x, y) = -|x - y|. Only
the sums of rows are stored: they give the value and its delete-one jackknife error in closed form.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from alignflow import checks

from .estimate import Estimate, check_samples

__all__ = ["default_bandwidths", "diversity", "energy_distance", "gaussian_kernel", "mmd"]

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
ROWS = 1024
Kernel = Callable[[Tensor], Tensor]
"""From distances to similarities, elementwise."""


def mmd(x: Tensor, y: Tensor, bandwidths: Sequence[float] | None = None) -> Estimate:
    """Squared maximum mean discrepancy, unbiased: its mean is zero for equal distributions.

    Args:
        x: Samples (N, *E).
        y: Reference (M, *E).
        bandwidths: Of the Gaussian kernels exp(-d^2 / (2 h^2)) that are averaged; by default the
            mean distance between all samples, of both sides, times 1/4, 1/2, 1, 2 and 4.
    """
    x, y = _rows(x, y)
    if bandwidths is None:
        bandwidths = default_bandwidths(torch.cat([x, y]))
    if not isinstance(bandwidths, Sequence) or not bandwidths:
        raise ValueError(f"bandwidths must be positive numbers, got {checks.shown(bandwidths)}")
    bandwidths = [checks.positive("each of bandwidths", width) for width in bandwidths]
    return _discrepancy(gaussian_kernel(bandwidths), x, y)


def default_bandwidths(x: Tensor) -> list[float]:
    """The mean distance between two of the samples (N, F), times 1/4, 1/2, 1, 2 and 4."""
    # where all samples are one point every bandwidth gives the same answer, zero
    distance = torch.pdist(x[:: -(-len(x) // ROWS)]).mean().item() or 1.0
    return [scale * distance for scale in SCALES]


def gaussian_kernel(bandwidths: Sequence[float]) -> Kernel:
    """The average of exp(-d^2 / (2 h^2)) over bandwidths h."""

    def kernel(distance: Tensor) -> Tensor:
        square = distance.square()
        similar = torch.zeros_like(square)
        for h in bandwidths:
            similar += (-square / (2 * h * h)).exp()
        return similar / len(bandwidths)

    return kernel


def energy_distance(x: Tensor, y: Tensor) -> Estimate:
    """2 E|x-y| - E|x-x'| - E|y-y'|, unbiased, of samples (N, *E) and a reference (M, *E)."""
    return _discrepancy(torch.neg, *_rows(x, y))


def diversity(x: Tensor) -> Estimate:
    """The mean distance between two of the samples (N, *E), with its jackknife error."""
    (x,) = _rows(x)
    n, sums = len(x), _within(lambda distance: distance, x)
    total = sums.sum()
    left = (total - 2 * sums) / ((n - 1) * (n - 2)) if n > 2 else sums * torch.nan
    return Estimate((total / (n * (n - 1))).item(), _error(left).item())


def _discrepancy(kernel: Kernel, x: Tensor, y: Tensor) -> Estimate:
    xx, yy = _within(kernel, x), _within(kernel, y)
    xy, yx = _between(kernel, x, y)
    value = _pairs(xx) + _pairs(yy) - 2 * xy.sum() / (len(x) * len(y))
    errors = _error(_left_out(xx, xy, len(y))), _error(_left_out(yy, yx, len(x)))
    return Estimate(value.item(), torch.hypot(*errors).item())


def _pairs(sums: Tensor) -> Tensor:
    return sums.sum() / (len(sums) * (len(sums) - 1))


def _left_out(within: Tensor, between: Tensor, others: int) -> Tensor:
    """The discrepancy without each sample in turn, up to a constant, (N,)."""
    n = len(within)
    if n < 3:
        return within * torch.nan
    inside = (within.sum() - 2 * within) / ((n - 1) * (n - 2))
    return inside - 2 * (between.sum() - between) / ((n - 1) * others)


def _error(left: Tensor) -> Tensor:
    return ((len(left) - 1) / len(left) * (left - left.mean()).square().sum()).sqrt()


def _within(kernel: Kernel, x: Tensor) -> Tensor:
    """Sums over the others, sum_{j != i} k(x_i, x_j), (N,)."""
    sums = []
    for start in range(0, len(x), ROWS):
        similar = kernel(torch.cdist(x[start : start + ROWS], x))
        similar.diagonal(start).zero_()
        sums.append(similar.sum(1, dtype=torch.float64))
    return torch.cat(sums)


def _between(kernel: Kernel, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the other side, of each x (N,) and of each y (M,)."""
    rows, columns = [], torch.zeros(len(y), dtype=torch.float64, device=y.device)
    for part in x.split(ROWS):
        similar = kernel(torch.cdist(part, y))
        rows.append(similar.sum(1, dtype=torch.float64))
        columns += similar.sum(0, dtype=torch.float64)
    return torch.cat(rows), columns


def _rows(*samples: Tensor) -> list[Tensor]:
    """Samples (N, F) centered, where distances lose the least to rounding."""
    check_samples(*samples)
    flat = [sample.detach().flatten(1) for sample in samples]
    if any(len(rows) < 2 for rows in flat) or len({rows.shape[1] for rows in flat}) > 1:
        shapes = ", ".join(str(tuple(sample.shape)) for sample in samples)
        raise ValueError(f"samples must be at least two, and of one event shape, got {shapes}")
    center = torch.stack([rows.mean(0) for rows in flat]).mean(0)
    return [rows - center for rows in flat]
