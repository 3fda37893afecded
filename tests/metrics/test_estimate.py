"""Estimates: a value with the standard error that repetitions have."""

import math

import pytest
import torch

from alignflow.metrics import (
    Estimate,
    energy_distance,
    frechet_distance,
    jackknife,
    mean,
    mmd,
    sliced_wasserstein,
)


def normal(n, d, generator, shift=0.0, scale=1.0):
    return shift + scale * torch.randn(n, d, generator=generator, dtype=torch.float64)


def test_mean_has_the_textbook_error(generator):
    values = torch.randn(63, generator=generator)
    estimate = mean(values)
    assert estimate.value == pytest.approx(values.mean().item())
    assert estimate.standard_error == pytest.approx(values.std().item() / math.sqrt(63))
    assert math.isnan(mean(values[:1]).standard_error)


def test_jackknife_of_a_mean_is_the_error_of_the_mean(generator):
    values = torch.randn(63, generator=generator, dtype=torch.float64)
    estimate = jackknife(lambda x: x.mean().item(), values, groups=63)
    assert estimate.standard_error == pytest.approx(mean(values).standard_error)


def test_estimate_prints_both_its_numbers():
    assert str(Estimate(1.23456, 0.0456)) == "1.235 ± 0.046"
    assert float(Estimate(1.5, 0.1)) == 1.5


@pytest.mark.parametrize(
    "distance",
    [lambda x, y: sliced_wasserstein(x, y, projections=1), mmd, energy_distance, frechet_distance],
    ids=["sliced_wasserstein", "mmd", "energy_distance", "frechet_distance"],
)
def test_standard_errors_are_the_standard_deviation_of_repetitions(distance, generator):
    """60 repetitions of n = 200, distributions apart: the mean error within 40 % of it."""
    found = [
        distance(normal(200, 1, generator), normal(200, 1, generator, shift=1.0)) for _ in range(60)
    ]
    std = torch.tensor([estimate.value for estimate in found]).std().item()
    reported = sum(estimate.standard_error for estimate in found) / len(found)
    assert 0.6 < reported / std < 1.4
