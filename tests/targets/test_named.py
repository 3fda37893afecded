"""The named targets: where their mass sits, and what their rewards say."""

import math

import pytest
import torch

from alignflow.targets import (
    Checkerboard,
    GaussianMixture,
    GridDensity,
    inverse_problem,
    inverse_problem_reward,
    ring,
    ring_reward,
)


def test_ring_has_equal_modes_at_equal_angles():
    target = ring()
    assert torch.allclose(target.weights, torch.full((8,), 1 / 8))
    assert torch.allclose(target.means.norm(dim=1), torch.full((8,), 4.0))
    assert torch.allclose(target.means[1], torch.full((2,), 4 / math.sqrt(2)))


def test_ring_reward_is_the_bowl_it_says():
    x = torch.tensor([[3.0, 2.0], [0.0, 0.0], [4.0, 0.0]])
    assert torch.allclose(ring_reward()(x), torch.tensor([0.0, -0.15 * 13, -0.15 * 5]))


def test_tilted_inverse_problem_is_the_bayesian_posterior():
    """Each Gaussian conditioned on y = a^T x + noise by the gain of linear regression."""
    prior = inverse_problem()
    a, y, variance = torch.tensor([1.2, -0.8]), -1.0, 0.04
    gain = 0.5 * a / (0.5 * a.dot(a) + variance)
    residual = y - prior.means @ a
    evidence = torch.distributions.Normal(0.0, (0.5 * a.dot(a) + variance).sqrt())
    posterior = prior.tilted(inverse_problem_reward(), 1.0)
    assert torch.allclose(posterior.means, prior.means + residual[:, None] * gain, atol=1e-4)
    covariance = 0.5 * torch.eye(2) - 0.5 * torch.outer(gain, a)
    assert torch.allclose(posterior.covariances, covariance.expand(3, 2, 2), atol=1e-5)
    weights = evidence.log_prob(residual).softmax(0)
    assert torch.allclose(posterior.weights, weights, rtol=1e-3)


def test_checkerboard_samples_lie_on_filled_squares_only_and_fill_them_evenly(generator):
    board, n = Checkerboard(), 32_000
    samples = board.sample(n, generator)
    assert torch.isfinite(board.log_density(samples)).all()
    squares = ((samples + 4) / 2).long()
    counts = torch.bincount(squares[:, 0] * 4 + squares[:, 1], minlength=16)
    assert (counts > 0).sum() == 8
    expected, deviation = n / 8, math.sqrt(n / 8 * 7 / 8)
    assert ((counts[counts > 0] - expected).abs() < 5 * deviation).all()


@pytest.mark.parametrize(("squares", "extent"), [(4, 4.0), (2, 1.0), (6, 0.5)])
def test_checkerboard_density_integrates_to_one(squares, extent):
    board = Checkerboard(squares, extent)
    corner = torch.full((2,), extent, dtype=torch.float64)
    grid = GridDensity(board.log_density, -corner, corner, points=12 * squares)
    assert grid.log_normalizer.item() == pytest.approx(0, abs=1e-6)
    assert board.log_density(2 * corner[None]).item() == -math.inf


def test_checkerboard_bins_halve_the_mass_where_they_straddle_two_squares():
    mass = Checkerboard().bin_mass(50)
    full = 1 / 8 / 12.5**2
    assert mass.sum().item() == pytest.approx(1)
    assert mass[0, 0].item() == pytest.approx(full)
    assert mass[12, 0].item() == pytest.approx(full / 2)
    assert torch.allclose(Checkerboard().bin_mass(48), Checkerboard().center_mass(48), atol=1e-9)


def test_grid_samples_have_the_moments_of_the_density(generator):
    n = 40_000
    normal = GaussianMixture(
        torch.ones(1), torch.tensor([[1.0, -2.0]]), torch.eye(2)[None]
    ).double()
    samples = normal.on_grid().sample(n, generator)
    assert ((samples.mean(0) - normal.means[0]).abs() < 5 / n**0.5).all()
    assert ((samples.var(0) - 1).abs() < 5 * (2 / n) ** 0.5).all()


def test_grid_tilts_by_a_black_box_and_reports_its_mean_reward():
    """The right half-line holds e^s / (1 + e^s) of the mass under its indicator at strength s."""
    normal = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1, 1)).double()

    def right(x):
        return (x[:, 0] > 0).double()

    tilted = normal.tilted(right, 2.0)
    share = math.exp(2) / (1 + math.exp(2))
    assert tilted.mean_reward(right).item() == pytest.approx(share, abs=1e-9)
    assert tilted.log_normalizer.item() == pytest.approx(math.log((1 + math.exp(2)) / 2))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ring(modes=0), "at least one mode"),
        (lambda: Checkerboard(squares=3), "squares must be even"),
        (lambda: Checkerboard(extent=0.0), "extent must be positive"),
        (lambda: GridDensity(lambda x: x.sum(1), torch.ones(2), torch.zeros(2)), "lower < upper"),
        (
            lambda: GridDensity(lambda x: x.sum(1) - torch.inf, torch.zeros(1), torch.ones(1)),
            "not a law",
        ),
    ],
)
def test_what_is_no_target_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
