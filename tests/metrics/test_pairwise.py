"""Distances by pairs against closed forms: MMD, energy distance, diversity."""

import math

import pytest
import torch

from alignflow.metrics import diversity, energy_distance, mean, mmd


def normal(n, d, generator, shift=0.0, scale=1.0):
    return shift + scale * torch.randn(n, d, generator=generator, dtype=torch.float64)


def test_mmd_agrees_with_its_definition_and_its_jackknife(generator):
    x, y = normal(7, 3, generator), normal(9, 3, generator, shift=1.0)

    def definition(x, y):
        def kernel(a, b):
            square = (a[:, None] - b[None]).square().sum(-1)
            return torch.stack([(-square / (2 * h**2)).exp() for h in (0.5, 2.0)]).mean(0)

        def others(z):
            matrix = kernel(z, z)
            return (matrix.sum() - matrix.trace()) / (len(z) * (len(z) - 1))

        return (others(x) + others(y) - 2 * kernel(x, y).mean()).item()

    def squared_error(function, z):
        left = torch.tensor([function(torch.cat([z[:i], z[i + 1 :]])) for i in range(len(z))])
        return (len(z) - 1) / len(z) * (left - left.mean()).square().sum().item()

    found = mmd(x, y, bandwidths=[0.5, 2.0])
    assert found.value == pytest.approx(definition(x, y), abs=1e-12)
    variance = squared_error(lambda z: definition(z, y), x)
    variance += squared_error(lambda z: definition(x, z), y)
    assert found.standard_error == pytest.approx(math.sqrt(variance), rel=1e-4)


def test_mmd_between_gaussians_has_its_closed_form(generator):
    """E k(x, y) = (h^2 / (h^2 + 2))^(D/2) exp(-|m|^2 / (2 (h^2 + 2))), unit Gaussians m apart."""
    x, y = normal(3000, 2, generator), normal(3000, 2, generator, shift=1.0)
    exact = 2 * (1 / 3) * (1 - math.exp(-2 / 6))
    found = mmd(x, y, bandwidths=[1.0])
    assert abs(found.value - exact) < 5 * found.standard_error
    assert found.standard_error < 0.1 * exact


def test_mmd_of_one_point_from_itself_is_zero():
    assert mmd(torch.ones(5, 2), torch.ones(6, 2)).value == 0


@pytest.mark.parametrize("distance", [mmd, energy_distance])
def test_unbiased_distances_of_equal_distributions_are_zero_on_average(distance, generator):
    """200 pairs of n = 40: a biased estimate would be off by 1 / n, many standard errors."""
    values = torch.tensor(
        [distance(normal(40, 2, generator), normal(40, 2, generator)).value for _ in range(200)]
    )
    average = mean(values)
    assert abs(average.value) < 5 * average.standard_error
    assert average.standard_error < 0.005


def test_energy_distance_between_gaussians_on_a_line_has_its_closed_form(generator):
    """E|N(m, 2)| by the folded normal; m = 1."""
    x, y = normal(3000, 1, generator), normal(3000, 1, generator, shift=1.0)

    def folded(m):
        return 2 / math.sqrt(math.pi) * math.exp(-(m**2) / 4) + m * math.erf(m / 2)

    found = energy_distance(x, y)
    assert abs(found.value - 2 * (folded(1.0) - folded(0.0))) < 5 * found.standard_error


def test_diversity_of_gaussians_is_the_mean_distance(generator):
    """On a line E|x - x'| = 2 / sqrt(pi)."""
    found = diversity(normal(3000, 1, generator))
    assert abs(found.value - 2 / math.sqrt(math.pi)) < 5 * found.standard_error
    assert diversity(torch.ones(7, 3, 2)).value == pytest.approx(0, abs=1e-6)
