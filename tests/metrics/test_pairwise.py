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


# --- a weighted reference ---


def weighted_definition(x, y, weight):
    """MMD^2 with a kernel of bandwidth 1, by loops, the weights of y of any sum."""

    def kernel(a, b):
        return math.exp(-(a - b).square().sum().item() / 2)

    n, total = len(x), weight.sum().item()
    w = [each / total for each in weight.tolist()]
    inside = sum(
        w[i] * w[j] * kernel(y[i], y[j]) for i in range(len(y)) for j in range(len(y)) if i != j
    )
    others = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    across = sum(w[j] * kernel(x[i], y[j]) for i in range(n) for j in range(len(y))) / n
    return others + inside / (1 - sum(each**2 for each in w)) - 2 * across


def test_mmd_to_weighted_samples_agrees_with_its_definition_and_its_jackknife(generator):
    x, y = normal(6, 3, generator), normal(8, 3, generator, shift=0.5)
    log_weight = 2 * normal(8, 1, generator)[:, 0]
    weight = log_weight.exp()
    found = mmd(x, y, [1.0], log_weight - 700.0)
    assert found.value == pytest.approx(weighted_definition(x, y, weight), abs=1e-12)

    def squared_error(left):
        left = torch.tensor(left, dtype=torch.float64)
        return (len(left) - 1) / len(left) * (left - left.mean()).square().sum().item()

    def without(z, i):
        return torch.cat([z[:i], z[i + 1 :]])

    variance = squared_error([weighted_definition(without(x, i), y, weight) for i in range(6)])
    variance += squared_error(
        [weighted_definition(x, without(y, i), without(weight, i)) for i in range(8)]
    )
    assert found.standard_error == pytest.approx(math.sqrt(variance), rel=1e-9)


def test_many_samples_have_the_distances_of_the_definition(generator):
    """1,100 and 600 samples, of which some hundreds are in memory at a time."""
    x, y = normal(1100, 3, generator), normal(600, 3, generator, shift=0.5)
    w = torch.rand(600, dtype=torch.float64, generator=generator) + 0.1
    w = w / w.sum()

    def discrepancy(kernel, w):
        xx, yy, xy = (kernel(torch.cdist(a, b)) for a, b in ((x, x), (y, y), (x, y)))
        within_x = xx.fill_diagonal_(0).sum() / (1100 * 1099)
        within_y = w @ yy.fill_diagonal_(0) @ w / (1 - w.square().sum())
        return (within_x + within_y - 2 * (xy @ w).mean()).item()

    equal = torch.full_like(w, 1 / 600)
    found = energy_distance(x, y).value
    assert found == pytest.approx(discrepancy(torch.neg, equal), abs=1e-9)
    found = mmd(x, y, bandwidths=[1.0], log_weight=w.log()).value
    assert found == pytest.approx(discrepancy(lambda d: (-d.square() / 2).exp(), w), abs=1e-9)
    alone = torch.cdist(x, x).sum().item() / (1100 * 1099)
    assert diversity(x).value == pytest.approx(alone, rel=1e-9)


def test_equal_weights_are_no_weights(generator):
    x, y = normal(7, 2, generator), normal(9, 2, generator)
    assert mmd(x, y, log_weight=torch.full((9,), -3.0)) == mmd(x, y)


def test_samples_of_weight_zero_count_nothing(generator):
    x, y = normal(7, 2, generator), normal(9, 2, generator)
    log_weight = normal(9, 1, generator)[:, 0]
    more = torch.cat([y, 100 + normal(4, 2, generator)])
    dropped = torch.cat([log_weight, torch.full((4,), -torch.inf)])
    assert mmd(x, more, log_weight=dropped) == mmd(x, y, log_weight=log_weight)


def test_weights_that_nearly_one_sample_has_leave_no_error(generator):
    x, y = normal(7, 2, generator), normal(9, 2, generator)
    found = mmd(x, y, log_weight=torch.tensor([800.0] + 8 * [0.0]))
    assert math.isnan(found.value) and math.isnan(found.standard_error)


def test_a_gaussian_weighted_by_a_linear_reward_is_the_shifted_one(generator):
    """200 pairs of n = 60, strength .5; within 5 standard errors, and not without the weights."""
    slope = torch.tensor([1.0, 0.0], dtype=torch.float64)
    values, plain, errors = [], [], []
    for _ in range(200):
        x, y = normal(60, 2, generator) + 0.5 * slope, normal(60, 2, generator)
        found = mmd(x, y, [1.0], 0.5 * y @ slope)
        values.append(found.value)
        errors.append(found.standard_error)
        plain.append(mmd(x, y, [1.0]).value)
    weighted, unweighted = mean(torch.tensor(values)), mean(torch.tensor(plain))
    assert abs(weighted.value) < 5 * weighted.standard_error
    assert unweighted.value > 10 * unweighted.standard_error
    # under equality the jackknife's error is somewhat too large, never too small
    std = torch.tensor(values).std().item()
    assert std < sum(errors) / len(errors) < 2 * std


@pytest.mark.parametrize(
    ("log_weight", "message"),
    [
        (torch.zeros(4), r"log_weight must be \(5,\)"),
        (torch.tensor([0.0, torch.nan, 0.0, 0.0, 0.0]), "numbers or -inf"),
        (torch.tensor([0.0, torch.inf, 0.0, 0.0, 0.0]), "numbers or -inf"),
        (torch.tensor([0.0] + 4 * [-torch.inf]), "at least two samples must have a weight, got 1"),
    ],
)
def test_weights_that_are_none_are_refused(log_weight, message):
    with pytest.raises(ValueError, match=message):
        mmd(torch.zeros(3, 2), torch.zeros(5, 2), log_weight=log_weight)


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
