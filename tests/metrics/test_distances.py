"""Distances of samples against closed forms: sliced Wasserstein, Frechet, and of histograms."""

import math

import pytest
import torch

from alignflow.metrics import (
    energy_distance,
    frechet_distance,
    histogram_kl,
    mean,
    mmd,
    novelty,
    sampling_floor,
    sliced_wasserstein,
    total_variation,
    wasserstein,
)
from alignflow.targets import Checkerboard, ring


def normal(n, d, generator, shift=0.0, scale=1.0):
    return shift + scale * torch.randn(n, d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("d", [1, 2, 8])
def test_sliced_wasserstein_of_shifted_samples_is_the_mean_projected_shift(d, generator):
    """A common shift m: every slice is |m . direction|, whose mean square is |m|^2 / D."""
    x = normal(63, d, generator)
    shift = torch.arange(1, d + 1, dtype=torch.float64)
    distance = sliced_wasserstein(x, x + shift, projections=4096, generator=generator)
    assert distance.value == pytest.approx((shift.norm() / d**0.5).item(), rel=0.05)


def test_sliced_wasserstein_between_gaussians_of_two_widths_is_the_difference(generator):
    """n = 20,000 a side; the error of a standard deviation is s / sqrt(2 n)."""
    x, y = normal(20_000, 1, generator), normal(20_000, 1, generator, scale=3.0)
    assert sliced_wasserstein(x, y, projections=1).value == pytest.approx(2.0, abs=0.1)


def test_sliced_wasserstein_takes_samples_of_unequal_numbers():
    x = torch.tensor([[0.0], [1.0]])
    doubled = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    assert sliced_wasserstein(x, doubled, projections=1).value == 0.0
    assert sliced_wasserstein(doubled + 2, x, projections=1).value == pytest.approx(2.0)


@pytest.mark.parametrize("d", [1, 3, 8])
def test_frechet_distance_of_a_linear_image_has_its_closed_form(d, generator):
    """y = A x + b, A symmetric positive: |gap of means|^2 + tr (A - 1) S (A - 1), S of the x."""
    x = normal(200, d, generator)
    root = torch.randn(d, d, generator=generator, dtype=torch.float64)
    a = root @ root.T + torch.eye(d)
    y = x @ a + 0.5
    gap = (a - torch.eye(d)) @ torch.cov(x.T).reshape(d, d) @ (a - torch.eye(d))
    exact = (y.mean(0) - x.mean(0)).square().sum() + gap.trace()
    assert frechet_distance(x, y).value == pytest.approx(exact.item(), rel=1e-9)
    assert frechet_distance(x, x).value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("bins", "center", "exact"), [(50, 0.0654, 0.0105), (48, 0.0093, 0.0094), (40, 0.0061, 0.0062)]
)
def test_exact_checkerboard_samples_are_at_the_known_divergence(bins, center, exact, generator):
    """Floors of 64,000 exact samples, measured elsewhere over three draws."""
    board = Checkerboard(extent=1.0)
    samples = board.sample(64_000, generator)
    by_center = histogram_kl(samples, board.center_mass(bins), 1.0)
    by_mass = histogram_kl(samples, board.bin_mass(bins), 1.0)
    assert by_center.value == pytest.approx(center, abs=0.003)
    assert by_mass.value == pytest.approx(exact, abs=0.001)


def test_divergence_is_finite_when_cells_are_empty_and_samples_off_the_board():
    board = Checkerboard(2, extent=1.0)
    samples = torch.tensor([[-0.5, -0.5], [9.0, 9.0]] * 10)
    found = histogram_kl(samples, board.bin_mass(2), 1.0)
    # one square holds half of the samples, the other none: floored at half a sample of twenty
    expected = 0.5 * math.log(0.5 / 0.5) + 0.5 * math.log(0.5 / (0.5 / 20))
    assert found.value == pytest.approx(expected)


def test_sampling_floor_is_what_two_exact_samples_are_apart(generator):
    target = ring()
    small = sampling_floor(target, 64, sliced_wasserstein, 8, generator)
    large = sampling_floor(target, 1024, sliced_wasserstein, 8, generator)
    assert 0 < large.value < small.value / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean(torch.zeros(0)), "N >= 1"),
        (lambda: sliced_wasserstein(torch.zeros(5, 2), torch.zeros(5, 3)), "one event shape"),
        (lambda: mmd(torch.zeros(5, 2), torch.zeros(1, 2)), "at least two"),
        (
            lambda: mmd(torch.zeros(5, 2), torch.ones(5, 2), [0.0]),
            "each of bandwidths must be a positive number, got 0.0",
        ),
        (lambda: energy_distance(torch.zeros(5, 2), torch.zeros(5, 3)), "one event shape"),
        (lambda: histogram_kl(torch.zeros(5, 3), torch.ones(2, 2) / 4, 1.0), r"samples \(N, 2\)"),
        (lambda: total_variation(torch.zeros(5, 3), torch.ones(2) / 2), "memberships must be"),
        (lambda: novelty(torch.zeros(5, 3), torch.zeros(5, 3).double()), "agree in event shape"),
    ],
)
def test_samples_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_wasserstein_of_numbers_is_the_area_between_their_distributions(generator):
    x = torch.randn(500, generator=generator, dtype=torch.float64)
    assert wasserstein(x, x + 2).value == pytest.approx(2)
    assert wasserstein(x, x[torch.randperm(500, generator=generator)]).value == 0
    assert wasserstein(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 1.0])).value == 0.5
    # of unequal numbers, by quantiles
    found = wasserstein(x, torch.randn(2000, generator=generator, dtype=torch.float64) + 1)
    assert abs(found.value - 1) < 5 * found.standard_error
