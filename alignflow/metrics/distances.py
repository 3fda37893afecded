"""Distances between two sets of samples, or between samples and a known distribution."""

from collections.abc import Callable

import torch
from torch import Tensor

from alignflow import checks
from alignflow.draws import normal

from .estimate import Estimate, check_samples, jackknife, mean

__all__ = [
    "frechet_distance",
    "histogram_kl",
    "sampling_floor",
    "sliced_wasserstein",
    "wasserstein",
]


def sliced_wasserstein(
    x: Tensor, y: Tensor, projections: int = 128, generator: torch.Generator | None = None
) -> Estimate:
    """Sliced Wasserstein-2 distance: the root mean square over directions of the one in a line.

    Args:
        x: Samples (N, *E).
        y: Reference (M, *E).
        projections: Number of random directions; in one dimension a single one is enough.
        generator: Source of the directions.
    """
    x, y = _rows(x, y)
    shape = x.shape[1], checks.count("projections", projections)
    directions = normal(shape, checks.as_generator(generator), x.dtype, x.device)
    directions = directions / directions.norm(dim=0)

    def distance(x: Tensor, y: Tensor) -> float:
        x, y = x.sort(dim=0).values, y.sort(dim=0).values
        if len(x) != len(y):
            count = max(len(x), len(y))
            x, y = _quantiles(x, count), _quantiles(y, count)
        return (x - y).square().mean().sqrt().item()

    return jackknife(distance, x @ directions, y @ directions)


def wasserstein(x: Tensor, y: Tensor) -> Estimate:
    """Wasserstein-1 distance of numbers (N,) and (M,), in their unit.

    It falls as the samples grow: compare it at equal numbers, or with its `sampling_floor`.
    """
    x, y = _rows(*(checks.as_tensor("samples", side).reshape(-1, 1) for side in (x, y)))

    def distance(x: Tensor, y: Tensor) -> float:
        count = max(len(x), len(y))
        x, y = (_quantiles(side.sort(dim=0).values, count) for side in (x, y))
        return (x - y).abs().mean().item()

    return jackknife(distance, x, y)


def frechet_distance(x: Tensor, y: Tensor) -> Estimate:
    """Squared Wasserstein-2 distance of the Gaussians fitted to features (N, F) and (M, F).

    It falls as the samples grow (about like F / N), so compare it at equal numbers only.
    """
    x, y = _rows(x, y)
    return jackknife(lambda x, y: _gaussian_distance(*_moments(x), *_moments(y)), x, y)


def histogram_kl(
    samples: Tensor, mass: Tensor, extent: float, empty: float = 0.5, groups: int = 10
) -> Estimate:
    """KL(distribution || histogram of samples) in the plane, in nats.

    Args:
        samples: (N, 2); those outside of the board count in N and in no cell.
        mass: The probability of each cell of a square grid, (bins, bins); see `Checkerboard`.
        extent: The grid covers [-extent, extent]^2.
        empty: Count given to a cell without samples, without which the divergence is infinite.
        groups: Of the jackknife.
    """
    if samples.ndim != 2 or samples.shape[1] != 2:
        raise ValueError(
            f"a histogram in the plane needs samples (N, 2), got {tuple(samples.shape)}"
        )
    bins, extent = _bins(mass), checks.positive("extent", extent)
    empty = checks.positive("empty", empty)
    cell = ((samples.double() + extent) / (2 * extent) * bins).floor().long()
    on_board = ((cell >= 0) & (cell < bins)).all(1)
    index = torch.where(on_board, cell[:, 0] * bins + cell[:, 1], bins * bins)
    exact = mass.flatten().double()

    def divergence(index: Tensor) -> float:
        count = torch.bincount(index, minlength=bins * bins + 1)[:-1].clamp_min(empty)
        fraction = count.double() / len(index)
        return torch.where(exact > 0, exact * (exact / fraction).log(), 0.0).sum().item()

    return jackknife(divergence, index, groups=groups)


def sampling_floor(
    target,
    n: int,
    distance: Callable[[Tensor, Tensor], Estimate],
    pairs: int = 8,
    generator: torch.Generator | None = None,
) -> Estimate:
    """What a distance measures between two independent exact samples: no method scores better.

    Args:
        target: Whose `sample(n, generator=generator)` is exact.
        n: Samples on each side.
        distance: From two samples to an estimate, e.g. `sliced_wasserstein`.
        pairs: Independent repetitions.
        generator: Source of the samples.
    """
    n, pairs = checks.count("n", n, least=2), checks.count("pairs", pairs)
    generator = checks.as_generator(generator)
    draws = [target.sample(n, generator=generator) for _ in range(2 * pairs)]
    values = [float(distance(x, y)) for x, y in zip(draws[::2], draws[1::2], strict=True)]
    return mean(torch.tensor(values, dtype=torch.float64))


def _quantiles(ordered: Tensor, count: int) -> Tensor:
    middle = (torch.arange(count, device=ordered.device) + 0.5) / count
    return ordered[(middle * len(ordered)).long()]


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(0), torch.cov(x.T).reshape(x.shape[1], x.shape[1])


def _gaussian_distance(mean: Tensor, covariance: Tensor, other: Tensor, second: Tensor) -> float:
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    # trace of the root of S1 S2, whose eigenvalues are those of the symmetric S1^(1/2) S2 S1^(1/2)
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    trace = covariance.trace() + second.trace() - 2 * cross
    return ((mean - other).square().sum() + trace).item()


def _bins(mass: Tensor) -> int:
    if mass.ndim != 2 or mass.shape[0] != mass.shape[1] or not mass.shape[0]:
        raise ValueError(f"mass must be of cells (bins, bins), got {checks.shown(mass)}")
    return len(mass)


def _rows(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    check_samples(x, y)
    x, y = x.detach().flatten(1).double(), y.detach().flatten(1).double()
    if len(x) < 2 or len(y) < 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            "samples and reference must be at least two each, and of one event shape, "
            f"got {tuple(x.shape)} and {tuple(y.shape)} (flattened)"
        )
    return x, y
