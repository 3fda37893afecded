"""Metrics against closed forms, brute force, and the standard deviation of repetitions."""

import math

import pytest
import torch

from alignflow.metrics import (
    Estimate,
    diversity,
    effective_sample_size,
    energy_distance,
    frechet_distance,
    histogram_kl,
    jackknife,
    mean,
    mmd,
    mode_weights_error,
    novelty,
    sampling_floor,
    sliced_wasserstein,
    total_variation,
)
from alignflow.targets import Checkerboard, GaussianMixture, ring


def normal(n, d, generator, shift=0.0, scale=1.0):
    return shift + scale * torch.randn(n, d, generator=generator, dtype=torch.float64)


# estimates


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


# distances


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


# fractions


def test_effective_sample_size_counts_the_weights_that_matter():
    log_weight = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -torch.inf, -torch.inf]])
    assert torch.allclose(effective_sample_size(log_weight), torch.tensor([4.0, 2.0]))
    assert torch.allclose(effective_sample_size(log_weight + 1000), torch.tensor([4.0, 2.0]))
    uneven = torch.tensor([3.0, 1.0]).log()
    assert effective_sample_size(uneven).item() == pytest.approx(16 / 10)


def test_total_variation_of_rates():
    memberships = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    found = total_variation(memberships, torch.tensor([0.25, 0.25, 0.5]))
    assert found.value == pytest.approx(0.25)


def test_mode_weights_error_sees_missing_mass(generator):
    target = ring()
    assert mode_weights_error(target.sample(20_000, generator=generator), target).value < 0.02
    half = GaussianMixture(torch.ones(4), target.means[:4], target.covariances[:4])
    missing = mode_weights_error(half.sample(500, generator=generator), target)
    assert missing.value == pytest.approx(0.5, abs=0.05)


def test_novelty_is_the_fraction_of_rows_never_seen(generator):
    seen = torch.randint(0, 256, (50, 3, 4, 4), generator=generator, dtype=torch.uint8)
    fresh = torch.randint(0, 256, (30, 3, 4, 4), generator=generator, dtype=torch.uint8)
    assert novelty(torch.cat([seen[:10], fresh]), seen).value == pytest.approx(0.75)
    assert novelty(torch.tensor([[-0.0, 1.0]]), torch.tensor([[0.0, 1.0]])).value == 0


# refusals


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
