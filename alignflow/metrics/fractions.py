"""Fractions of samples, of a class, of a mode or novel ones, with their intervals."""

import math

import torch
from torch import Tensor

from alignflow import checks

from .estimate import Estimate, Interval, Z, check_samples, jackknife, mean

__all__ = ["mode_weights_error", "novelty", "total_variation", "wilson_interval"]


def wilson_interval(count: float, n: int) -> Interval:
    """The fraction count / n of n samples, with its 95% interval (Wilson's)."""
    p, z2 = count / n, Z**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    return Interval(p, max(middle - half, 0.0), min(middle + half, 1.0))


def total_variation(memberships: Tensor, rates: Tensor) -> Estimate:
    """Total variation between the classes' fractions of the samples and their true rates.

    Args:
        memberships: One-hot rows, or probabilities of the classes, (N, C).
        rates: (C,), summing to 1.
    """
    rates = checks.as_tensor("rates", rates)
    check_samples(memberships)
    if memberships.ndim != 2 or rates.shape != memberships.shape[1:]:
        raise ValueError(
            "memberships must be (N, C) and rates (C,), "
            f"got {tuple(memberships.shape)} and {tuple(rates.shape)}"
        )
    rates = rates.detach().double()

    def distance(rows: Tensor) -> float:
        return ((rows.mean(0) - rates).abs().sum() / 2).item()

    return jackknife(distance, memberships.detach().double())


def mode_weights_error(samples: Tensor, mixture) -> Estimate:
    """Total variation between the modes' fractions of samples (N, D) and a mixture's weights."""
    return total_variation(mixture.posterior(samples, 1.0).weights, mixture.weights)


def novelty(samples: Tensor, reference: Tensor) -> Estimate:
    """The fraction of samples (N, *E) that are equal to no row of the reference (M, *E).

    Rows are compared exactly: bring both to what may be called identical (bytes, palette) first.
    """
    check_samples(samples, reference)
    if samples.shape[1:] != reference.shape[1:] or samples.dtype != reference.dtype:
        raise ValueError(
            "samples and reference must agree in event shape and dtype, "
            f"got {tuple(samples.shape)} {samples.dtype}, "
            f"{tuple(reference.shape)} {reference.dtype}"
        )
    known = set(_keys(reference))
    return mean(torch.tensor([float(key not in known) for key in _keys(samples)]))


def _keys(rows: Tensor):
    rows = rows.detach().cpu().flatten(1) + 0  # so that -0.0 is 0.0
    return (row.tobytes() for row in rows.contiguous().numpy())
