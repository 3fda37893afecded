r"""Statistics over all pairs of samples: kernel distances and diversity, without bias.

.. math:: D_k = \frac{1}{n(n-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{m(m-1)} \sum_{i \ne j}
    k(y_i, y_j) - \frac{2}{nm} \sum_{i,j} k(x_i, y_j)

The squared MMD is D_k of a Gaussian kernel, the energy distance D_k of k(x, y) = -|x - y|. A
reference may have weights w, of sum 1: its averages become

.. math:: \frac{\sum_{i \ne j} w_i w_j k(y_i, y_j)}{1 - \sum_i w_i^2} \qquad \text{and} \qquad
    \frac{2}{n} \sum_{i,j} w_j k(x_i, y_j)

Only the sums of rows are stored: they give the value and its delete-one jackknife error in closed
form.
"""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from alignflow import checks

from .estimate import Estimate, check_samples

__all__ = ["default_bandwidths", "diversity", "energy_distance", "gaussian_kernel", "mmd"]

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
ROWS = 1024  # of which bandwidths are estimated, at most
TILE = 512  # pairs of so many samples and so many stay in the cache
Kernel = Callable[[Tensor], Tensor]
"""From distances to similarities, elementwise."""


def mmd(
    x: Tensor,
    y: Tensor,
    bandwidths: Sequence[float] | None = None,
    log_weight: Tensor | None = None,
) -> Estimate:
    """Squared maximum mean discrepancy, unbiased: its mean is zero for equal distributions.

    Args:
        x: Samples (N, *E).
        y: Reference (M, *E).
        bandwidths: Of the Gaussian kernels exp(-d^2 / (2 h^2)) that are averaged; by default the
            mean distance between all samples, of both sides, times 1/4, 1/2, 1, 2 and 4.
        log_weight: Of the reference, (M,), up to a constant; without them its samples are equal.
            A sample of -inf counts nothing. Where samples have nearly all the weight of their side,
            the value and its error are NaN.

    Raises:
        ValueError: If an argument is none of these, or fewer than two samples have a weight.
    """
    weight = None
    if log_weight is not None:
        y, weight = _weighted(y, log_weight)
    x, y = _rows(x, y)
    if bandwidths is None:
        bandwidths = default_bandwidths(torch.cat([x, y]))
    if not isinstance(bandwidths, Sequence) or not bandwidths:
        raise ValueError(f"bandwidths must be positive numbers, got {checks.shown(bandwidths)}")
    bandwidths = [checks.positive("each of bandwidths", width) for width in bandwidths]
    return _discrepancy(gaussian_kernel(bandwidths), x, y, weight)


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
    n, sums = len(x), _within(lambda distance: distance, x, _equal(x))
    total = sums.sum()
    left = (total - 2 * sums) / ((n - 1) * (n - 2)) if n > 2 else sums * torch.nan
    return Estimate((total / (n * (n - 1))).item(), _error(left).item())


def _discrepancy(kernel: Kernel, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Estimate:
    ones, weight = _equal(x), _equal(y) if weight is None else weight
    xx, yy = _within(kernel, x, ones), _within(kernel, y, weight)
    xy, yx = _between(kernel, x, y, weight)
    value = _pairs(xx, ones) + _pairs(yy, weight) - 2 * xy.sum() / (len(x) * weight.sum())
    left_x = _left_out(xx, xy, ones, weight.sum())
    left_y = _left_out(yy, yx, weight, ones.sum())
    return Estimate(value.item(), torch.hypot(_error(left_x), _error(left_y)).item())


def _equal(x: Tensor) -> Tensor:
    """Weights of samples that are equal, (N,)."""
    return torch.ones(len(x), dtype=torch.float64, device=x.device)


def _weighted(y: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """The samples that have a weight, with it: at most 1, float64."""
    check_samples(y)
    log_weight = checks.as_tensor("log_weight", log_weight).detach().to(y.device, torch.float64)
    if log_weight.shape != y.shape[:1] or not (log_weight < torch.inf).all():
        raise ValueError(
            f"log_weight must be ({len(y)},), numbers or -inf, got {checks.shown(log_weight)}"
        )
    counts = log_weight > -torch.inf
    if counts.sum() < 2:
        raise ValueError(f"at least two samples must have a weight, got {int(counts.sum())}")
    log_weight = log_weight[counts]
    return y[counts], (log_weight - log_weight.max()).exp()


def _pairs(within: Tensor, weight: Tensor) -> Tensor:
    return (weight * within).sum() / (weight.sum().square() - weight.square().sum())


def _left_out(within: Tensor, between: Tensor, weight: Tensor, others: Tensor) -> Tensor:
    """The discrepancy without each sample in turn, up to a constant, (N,)."""
    if len(weight) < 3:
        return within * torch.nan
    left = weight.sum() - weight
    inside, across = weight * within, weight * between
    pairs = left.square() - (weight.square().sum() - weight.square())
    return (inside.sum() - 2 * inside) / pairs - 2 * (across.sum() - across) / (left * others)


def _error(left: Tensor) -> Tensor:
    return ((len(left) - 1) / len(left) * (left - left.mean()).square().sum()).sqrt()


def _within(kernel: Kernel, x: Tensor, weight: Tensor) -> Tensor:
    """Sums over the others, sum_{j != i} w_j k(x_i, x_j), (N,)."""
    sums = torch.zeros_like(weight)
    parts = _parts(len(x))
    for number, rows in enumerate(parts):
        similar = kernel(torch.cdist(x[rows], x[rows])).fill_diagonal_(0)
        sums[rows] += similar.double() @ weight[rows]
        for columns in parts[number + 1 :]:  # of each pair once
            similar = kernel(torch.cdist(x[rows], x[columns])).double()
            sums[rows] += similar @ weight[columns]
            sums[columns] += weight[rows] @ similar
    return sums


def _between(kernel: Kernel, x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the other side, of each x (N,) by the weights of y, and of each y (M,)."""
    row_sums, column_sums = _equal(x).zero_(), torch.zeros_like(weight)
    for rows, columns in product(_parts(len(x)), _parts(len(y))):
        similar = kernel(torch.cdist(x[rows], y[columns])).double()
        row_sums[rows] += similar @ weight[columns]
        column_sums[columns] += similar.sum(0)
    return row_sums, column_sums


def _parts(n: int) -> list[slice]:
    return [slice(start, start + TILE) for start in range(0, n, TILE)]


def _rows(*samples: Tensor) -> list[Tensor]:
    """Samples (N, F) centered, where distances lose the least to rounding."""
    check_samples(*samples)
    flat = [sample.detach().flatten(1) for sample in samples]
    if any(len(rows) < 2 for rows in flat) or len({rows.shape[1] for rows in flat}) > 1:
        shapes = ", ".join(str(tuple(sample.shape)) for sample in samples)
        raise ValueError(f"samples must be at least two, and of one event shape, got {shapes}")
    center = torch.stack([rows.mean(0) for rows in flat]).mean(0)
    return [rows - center for rows in flat]
