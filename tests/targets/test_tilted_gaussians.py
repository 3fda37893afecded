"""Values and tilts: golden numbers, two independent routes, sampling, and quadrature."""

import pytest
import torch

from alignflow.metrics import sampling_floor, sliced_wasserstein
from alignflow.reward_module import Reward
from alignflow.targets import (
    Empirical,
    GaussianMixture,
    GridDensity,
    Linear,
    Quadratic,
    ring,
    ring_reward,
)
from alignflow.targets.tilted_gaussians import tilted_gaussians
from alignflow.tilt import Tilt

DIMENSIONS = pytest.mark.parametrize("mixture", [1, 2, 8], indirect=True, ids="D={}".format)
TIMES = pytest.mark.parametrize("t", [0.0, 0.3, 0.9, 1.0])
REWARDS = pytest.mark.parametrize("kind", ["bowl", "ellipse", "linear"])


def build_reward(kind, d):
    generator = torch.Generator().manual_seed(17)
    vector = torch.randn(d, generator=generator, dtype=torch.float64)
    root = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return {
        "bowl": lambda: Quadratic(vector, 0.7),
        "ellipse": lambda: Quadratic(vector, root @ root.T / d),
        "linear": lambda: Linear(vector),
    }[kind]()


@pytest.fixture
def line() -> GaussianMixture:
    """0.3 N(-1.5, 0.2) + 0.7 N(1, 0.4)."""
    return GaussianMixture(
        torch.tensor([0.3, 0.7], dtype=torch.float64),
        torch.tensor([[-1.5], [1.0]], dtype=torch.float64),
        torch.tensor([[[0.2]], [[0.4]]], dtype=torch.float64),
    )


def test_value_and_gradient_of_a_worked_example(line):
    """r = -2 (z - 0.2)^2 at t = 0.5, x = 0.4; figures by independent quadrature."""
    x = torch.tensor([[0.4]], dtype=torch.float64)
    reward = Quadratic(torch.tensor([0.2], dtype=torch.float64), 4.0)
    assert line.value(x, 0.5, reward, 1.0).item() == pytest.approx(-0.9344, abs=5e-5)
    assert line.value_gradient(x, 0.5, reward, 1.0).item() == pytest.approx(-0.6171, abs=5e-5)


def test_linear_reward_shifts_a_standard_normal_by_its_direction():
    normal = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1, 1))
    tilted = normal.tilted(Linear(torch.ones(1)), 1.0)
    assert torch.allclose(tilted.means, torch.ones(1, 1))
    assert torch.allclose(tilted.covariances, torch.ones(1, 1, 1))


@DIMENSIONS
@REWARDS
def test_tilted_density_is_the_density_times_the_exponential_of_the_reward(
    mixture, kind, generator
):
    reward = build_reward(kind, mixture.event_shape[0])
    x = mixture.sample(7, generator=generator)
    ratio = mixture.tilted(reward, 1.3).log_density(x) - mixture.log_density(x)
    constant = 1.3 * reward(x) - ratio
    assert torch.allclose(constant, constant[0].expand(7), atol=1e-9)
    at_start = mixture.value(torch.zeros_like(x[:1]), 0.0, reward, 1.3)
    assert torch.allclose(constant[:1], at_start, atol=1e-9)  # both are log E[exp(lambda r)]


@DIMENSIONS
@REWARDS
@TIMES
def test_value_is_the_log_mass_of_the_tilted_posterior(mixture, kind, t, generator):
    """Completing the square inside every posterior: another road than the ratio of marginals."""
    reward = build_reward(kind, mixture.event_shape[0])
    x = (1 - t) * mixture.noise(7, generator) + t * mixture.sample(7, generator=generator)
    masses, _, _ = tilted_gaussians(mixture.posterior(x, t), Tilt(reward, 1.3))
    assert torch.allclose(mixture.value(x, t, reward, 1.3), masses.logsumexp(1), atol=1e-8)


@DIMENSIONS
@REWARDS
@TIMES
def test_value_gradient_is_the_gradient_of_the_value(mixture, kind, t, generator):
    reward = build_reward(kind, mixture.event_shape[0])
    x = ((1 - t) * mixture.noise(7, generator) + t).requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.value(x, t, reward, 1.3).sum(), x)
    assert torch.allclose(mixture.value_gradient(x, t, reward, 1.3), gradient, atol=1e-8)


@DIMENSIONS
def test_value_at_the_end_is_the_reward_itself(mixture, generator):
    reward = build_reward("ellipse", mixture.event_shape[0])
    x = mixture.sample(7, generator=generator)
    assert torch.allclose(mixture.value(x, 1.0, reward, 1.3), 1.3 * reward(x), atol=1e-9)


@DIMENSIONS
@REWARDS
def test_value_is_what_posterior_draws_average_to(mixture, kind, generator):
    n = 40_000
    reward = build_reward(kind, mixture.event_shape[0])
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    x = t[:, None] * mixture.sample(3, generator=generator)
    draws = mixture.posterior_sample(x, t, n, generator)
    weight = (0.4 * reward(draws.flatten(0, 1))).exp().reshape(3, n)
    exact = mixture.value(x, t, reward, 0.4).exp()
    assert ((weight.mean(1) - exact).abs() < 5 * weight.std(1) / n**0.5).all()


@DIMENSIONS
def test_pathwise_gradient_through_the_posterior_flow_estimates_the_value_gradient(
    mixture, generator
):
    n, strength = 2000, 0.1
    reward = build_reward("bowl", mixture.event_shape[0])
    x = (0.5 * mixture.sample(1, generator=generator)).requires_grad_()
    mixture.tolerance = 1e-5
    states = x.expand(n, -1)
    noise = mixture.noise(n, generator)[:, None]
    weight = (strength * reward(mixture.posterior_flow(noise, states, 0.5)[:, 0])).exp()
    (each,) = torch.autograd.grad(weight.sum(), states)
    value = mixture.value(x, 0.5, reward, strength)
    gradient = mixture.value_gradient(x, 0.5, reward, strength)
    # centered, E[grad w - w grad V] = 0 needs no ratio of two estimates
    centered = each - weight.detach()[:, None] * gradient
    assert (centered.mean(0).abs() < 5 * centered.std(0) / n**0.5).all()
    assert (weight.mean() - value.exp()).abs().item() < 5 * weight.std().item() / n**0.5


@DIMENSIONS
def test_tilted_velocity_is_the_velocity_plus_the_value_gradient(mixture, generator):
    reward = build_reward("ellipse", mixture.event_shape[0])
    t = 0.1 + 0.8 * torch.rand(7, generator=generator, dtype=torch.float64)
    x = mixture.noise(7, generator)
    factor = ((1 - t) / t)[:, None]
    steered = mixture.velocity(x, t) + factor * mixture.value_gradient(x, t, reward, 1.3)
    assert torch.allclose(mixture.tilted(reward, 1.3).velocity(x, t), steered, atol=1e-9)


@DIMENSIONS
def test_reweighted_samples_have_the_tilted_mean(mixture, generator):
    n = 100_000
    reward = build_reward("bowl", mixture.event_shape[0])
    samples = mixture.sample(n, generator=generator)
    weight = (0.5 * reward(samples)).softmax(0)[:, None]
    mean = (weight * samples).sum(0)
    error = (weight.square() * (samples - mean).square()).sum(0).sqrt()
    tilted = mixture.tilted(reward, 0.5)
    assert ((mean - tilted.weights @ tilted.means).abs() < 5 * error).all()


@DIMENSIONS
def test_two_tilts_are_one_tilt_by_the_sum_of_strengths(mixture, generator):
    reward = build_reward("ellipse", mixture.event_shape[0])
    x = mixture.sample(7, generator=generator)
    twice, once = mixture.tilted(reward, 0.5).tilted(reward, 1.5), mixture.tilted(reward, 2.0)
    assert torch.allclose(twice.log_density(x), once.log_density(x), atol=1e-9)
    back = once.tilted(reward, -2.0)
    assert torch.allclose(back.log_density(x), mixture.log_density(x), atol=1e-8)


def test_a_tilt_says_what_a_reward_and_its_strength_say(line, generator):
    reward, x = build_reward("bowl", 1), line.sample(7, generator=generator)
    stored = Empirical(x)
    for target in (line, line.on_grid(), stored):
        by_tilt, by_strength = target.tilted(Tilt(reward, 1.3)), target.tilted(reward, 1.3)
        drawn = (tilted.sample(5, generator=1) for tilted in (by_tilt, by_strength))
        assert torch.equal(*drawn)
    for ask in (line.value, line.value_gradient, line.tilted_velocity, stored.value):
        assert torch.equal(ask(x, 0.5, Tilt(reward, 1.3)), ask(x, 0.5, reward, 1.3))
    with pytest.raises(ValueError, match="a tilt has a strength already, got strength=2.0"):
        line.tilted(Tilt(reward, 1.3), 2.0)
    with pytest.raises(ValueError, match="strength must be a finite number, got None"):
        line.tilted(reward)


@pytest.mark.parametrize("mixture", [1, 2], indirect=True, ids="D={}".format)
@REWARDS
def test_quadrature_agrees_with_the_closed_form(mixture, kind, generator):
    reward = build_reward(kind, mixture.event_shape[0])
    x = mixture.sample(7, generator=generator)
    exact, grid = mixture.tilted(reward, 1.3), mixture.tilted(Reward(reward.score, "hidden"), 1.3)
    assert isinstance(grid, GridDensity)
    assert torch.allclose(grid.log_density(x), exact.log_density(x), atol=1e-8)
    mean = exact.weights @ exact.means
    assert torch.allclose(grid.expectation(lambda x: x), mean, atol=1e-8)


def test_sixty_four_posterior_draws_steer_the_ring_to_its_tilt(generator):
    """Gradient-free steering with exact draws reaches the floor that exact samples set."""
    n, steps, k = 512, 60, 64
    target, reward = ring(), ring_reward()
    x = target.noise(n, generator)
    for step in range(steps):
        t = step / steps
        draws = target.posterior_sample(x, t, k, generator)
        weight = reward(draws.flatten(0, 1)).reshape(n, k).softmax(1)
        denoiser = torch.einsum("nk,nkd->nd", weight, draws)
        x = x + (denoiser - x) / (1 - t) / steps
    tilted = target.tilted(reward, 1.0)
    floor = sampling_floor(tilted, n, sliced_wasserstein, 16, generator)
    reached = sliced_wasserstein(x, tilted.sample(n, generator=generator), generator=generator)
    std = 4 * floor.standard_error  # of a single pair, from the error of the mean of 16
    assert reached.value < floor.value + 5 * std
    base = sliced_wasserstein(
        target.sample(n, generator=generator), tilted.sample(n, generator=generator)
    )
    assert base.value > 3 * reached.value


def test_a_reward_that_outgrows_the_gaussian_is_refused(line):
    reward = Quadratic(torch.zeros(1, dtype=torch.float64), 1.0)
    line.tilted(reward, -2.4)
    with pytest.raises(ValueError, match="grows faster"):
        line.tilted(reward, -2.6)  # the wider component has precision 2.5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Quadratic(torch.zeros(2, 2)), "center must be a vector"),
        (lambda: Quadratic(torch.zeros(2), torch.ones(3, 3)), "precision must be a number"),
        (lambda: Quadratic(torch.zeros(2), torch.tensor([[1.0, 1.0], [0.0, 1.0]])), "symmetric"),
        (lambda: Linear(torch.tensor([1, 2])), "direction must be a vector"),
        (lambda: Linear(torch.tensor([1.0, torch.inf])), "direction must be finite"),
    ],
)
def test_what_is_no_quadratic_reward_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
