"""Tilts by any reward: against closed forms, another grid, draws, autograd and transport."""

import math

import pytest
import torch
from torch.distributions import Normal

from alignflow.reward_module import Reward
from alignflow.targets import (
    GaussianMixture,
    Linear,
    Quadratic,
    cycloid_reward,
    cycloid_ring,
    ring,
    ring_reward,
)

DIMENSIONS = pytest.mark.parametrize("mixture", [1, 2], indirect=True, ids="D={}".format)
TIMES = pytest.mark.parametrize("t", [0.0, 0.3, 0.9, 0.999, 1.0])
STRENGTH = 1.3


def waves(x):
    return (2 * x).sin().sum(1) - 0.1 * x.square().sum(1)


def states_at(mixture, t, n, generator):
    return (1 - t) * mixture.noise(n, generator) + t * mixture.sample(n, generator=generator)


def closed_forms(d):
    vector = torch.linspace(-1.0, 0.5, d, dtype=torch.float64)
    precision = torch.eye(d, dtype=torch.float64) + 0.4
    return {"ellipse": Quadratic(vector, precision), "linear": Linear(vector)}


@DIMENSIONS
@TIMES
@pytest.mark.parametrize("kind", ["ellipse", "linear"])
def test_quadrature_is_the_closed_form_where_there_is_one(mixture, t, kind, generator):
    reward = closed_forms(mixture.event_shape[0])[kind]
    hidden = Reward(reward.score, "hidden")
    x = states_at(mixture, t, 7, generator)
    value = mixture.value(x, t, hidden, STRENGTH)
    assert torch.allclose(value, mixture.value(x, t, reward, STRENGTH), atol=1e-9)
    velocity = mixture.tilted_velocity(x, t, hidden, STRENGTH)
    exact = mixture.tilted(reward, STRENGTH).velocity(x, t)
    assert torch.allclose(velocity, exact, atol=1e-9)
    assert torch.allclose(mixture.tilted_velocity(x, t, reward, STRENGTH), exact)
    if t < 1:
        gradient = mixture.value_gradient(x, t, hidden, STRENGTH)
        exact = mixture.value_gradient(x, t, reward, STRENGTH)
        assert torch.allclose(gradient, exact, atol=1e-9)


@DIMENSIONS
@pytest.mark.parametrize("t", [0.0, 0.3, 0.8])
def test_tilted_posterior_is_what_bayes_rule_gives_on_a_grid_of_endpoints(mixture, t, generator):
    """The posterior's density on one box for all states, and no component anywhere."""
    x = states_at(mixture, t, 5, generator)
    grid = mixture.on_grid()
    likelihood = Normal(t * grid.points[:, None], 1 - t).log_prob(x).sum(-1)  # (G, N)
    log_joint = grid.probabilities.log()[:, None] + likelihood
    tilted = log_joint + STRENGTH * waves(grid.points)[:, None]
    mean = torch.einsum("gn,gd->nd", log_joint.softmax(0), grid.points)
    tilted_mean = torch.einsum("gn,gd->nd", tilted.softmax(0), grid.points)
    value = tilted.logsumexp(0) - log_joint.logsumexp(0)
    gradient = t / (1 - t) ** 2 * (tilted_mean - mean)
    velocity = (tilted_mean - x) / (1 - t)
    assert torch.allclose(mixture.value(x, t, waves, STRENGTH), value, atol=1e-8)
    assert torch.allclose(mixture.value_gradient(x, t, waves, STRENGTH), gradient, atol=1e-7)
    assert torch.allclose(mixture.tilted_velocity(x, t, waves, STRENGTH), velocity, atol=1e-7)


@DIMENSIONS
def test_value_is_what_posterior_draws_average_to(mixture, generator):
    n = 40_000

    def steps(x):  # a black box with jumps, in plain numbers
        return (x.sum(1) > 0.3).double().tolist()

    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    x = t[:, None] * mixture.sample(3, generator=generator)
    draws = mixture.posterior_sample(x, t, n, generator).flatten(0, 1)
    weight = (STRENGTH * torch.tensor(steps(draws), dtype=torch.float64)).exp().reshape(3, n)
    exact = mixture.value(x, t, steps, STRENGTH).exp()
    assert ((weight.mean(1) - exact).abs() < 5 * weight.std(1) / n**0.5 + 1e-3).all()


def test_value_of_an_indicator_is_the_posterior_probability_to_the_grids_spacing():
    normal = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1, 1)).double()
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    t = 0.6
    variance = t**2 + (1 - t) ** 2
    above = Normal(0.0, 1.0).cdf(t * x / variance * variance**0.5 / (1 - t)).squeeze(1)
    value = normal.value(x, t, lambda x: (x[:, 0] > 0).double(), 2.0)
    assert torch.allclose(value.exp(), 1 + (math.exp(2) - 1) * above, atol=0.01)


@DIMENSIONS
def test_value_starts_at_the_log_normalizer_and_ends_at_the_reward(mixture, generator):
    x = mixture.sample(3, generator=generator)
    start = mixture.tilted(waves, STRENGTH).log_normalizer
    assert torch.allclose(mixture.value(x, 0.0, waves, STRENGTH), start.expand(3), atol=1e-8)
    assert torch.allclose(mixture.value(x, 1.0, waves, STRENGTH), STRENGTH * waves(x), atol=1e-9)
    assert mixture.value_gradient(x, 0.0, waves, STRENGTH).abs().max() < 1e-12


@DIMENSIONS
@pytest.mark.parametrize("t", [0.0, 0.3, 0.9, 0.999, 1.0])
def test_value_gradient_is_the_gradient_of_the_value(mixture, t, generator):
    reward = Reward(waves, differentiable=True)
    x = states_at(mixture, t, 3, generator).requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.value(x, t, reward, STRENGTH).sum(), x)
    found = mixture.value_gradient(x, t, reward, STRENGTH)
    assert torch.allclose(found, gradient, atol=1e-7)
    if t < 1:  # and it never asked for the reward's gradient
        assert torch.allclose(mixture.value_gradient(x, t, waves, STRENGTH), found, atol=1e-9)


@DIMENSIONS
def test_each_state_has_its_time(mixture, generator):
    t = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    x = mixture.noise(3, generator)
    reward = Reward(waves, differentiable=True)
    for method in (mixture.value, mixture.value_gradient, mixture.tilted_velocity):
        alone = [method(x[i, None], t[i].item(), reward, STRENGTH) for i in range(3)]
        assert torch.allclose(method(x, t, reward, STRENGTH), torch.cat(alone), atol=1e-12)


def test_more_states_than_fit_in_memory_are_integrated_in_turn(generator):
    target, seen = ring().double(), []

    def counting(x):
        seen.append(len(x))
        return ring_reward().score(x)

    x = states_at(target, 0.5, 20, generator)
    value = target.value(x, 0.5, counting, 1.0)
    assert torch.allclose(value, target.value(x, 0.5, ring_reward(), 1.0), atol=1e-9)
    assert sum(seen) == 20 * 8 * 128**2 and max(seen) <= 2**20


def test_tilted_velocity_carries_noise_into_the_tilt():
    """On a line the flow keeps the fraction of mass below."""
    mixture = GaussianMixture(
        torch.tensor([0.3, 0.7]), torch.tensor([[-1.5], [1.0]]), torch.tensor([[[0.2]], [[0.4]]])
    ).double()
    start = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    x, steps = start, 40
    for step in range(steps):  # Runge-Kutta
        velocity, velocities = torch.zeros_like(x), []
        for part in (0.0, 0.5, 0.5, 1.0):
            t = (step + part) / steps
            velocity = mixture.tilted_velocity(x + part / steps * velocity, t, waves, 2.0)
            velocities.append(velocity)
        x = x + (velocities[0] + 2 * velocities[1] + 2 * velocities[2] + velocities[3]) / (
            6 * steps
        )
    grid = mixture.tilted(waves, 2.0)
    edges = grid.points.squeeze(1) + grid.spacing / 2
    index = torch.searchsorted(edges, x.squeeze(1))
    inside = (x.squeeze(1) - edges[index - 1]) / grid.spacing
    below = grid.probabilities.cumsum(0)[index - 1] + inside * grid.probabilities[index]
    assert torch.allclose(below, Normal(0.0, 1.0).cdf(start.squeeze(1)), atol=1e-5)


def test_a_reward_finer_than_the_components_is_integrated_too(generator):
    """n = 200,000 draws of the ring against the value at time 0."""
    n, target, reward = 200_000, cycloid_ring().double(), cycloid_reward()
    weight = (10 * reward(target.sample(n, generator=generator))).exp()
    value = target.value(torch.zeros(1, 2).double(), 0.0, reward, 10.0).exp()
    assert (weight.mean() - value).abs().item() < 5 * weight.std().item() / n**0.5


def test_a_black_box_leaves_no_graph_that_would_give_a_wrong_gradient(generator):
    target = ring().double()
    x = states_at(target, 0.5, 2, generator).requires_grad_()
    for method in (target.value, target.value_gradient, target.tilted_velocity):
        assert not method(x, 0.5, waves, 1.0).requires_grad
        assert method(x, 0.5, Reward(waves, differentiable=True), 1.0).requires_grad


def test_questions_without_an_answer_are_refused():
    target = ring().double()
    x = torch.zeros(2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="reward 'waves' has none: ask for it before the end"):
        target.value_gradient(x, torch.tensor([0.5, 1.0]), waves, 1.0)
    with pytest.raises(ValueError, match="reaches beyond 10 standard deviations"):
        target.value(x, 0.0, lambda x: x[:, 0], 40.0)
    eight = GaussianMixture(torch.ones(1), torch.zeros(1, 8), torch.eye(8)[None])
    for method in (eight.value, eight.value_gradient, eight.tilted_velocity):
        with pytest.raises(ValueError, match="one or two dimensions, got 8: take Quadratic or Lin"):
            method(torch.zeros(2, 8), 0.5, waves, 1.0)
    with pytest.raises(ValueError, match="one or two dimensions, got 8"):
        eight.tilted(waves, 1.0)


@pytest.mark.parametrize("strength", [0.0, 1.5, -1.0])
def test_a_dropped_half_of_the_plane_is_dropped_under_every_strength(strength):
    def right(x):
        return torch.where(x[:, 0] > 0, 1.0, torch.nan)

    half = Reward(right, on_invalid="drop")
    target, x = ring(modes=4), torch.tensor([[0.1, 0.0], [-0.2, 0.1]])
    value = target.value(x, 0.3, half, strength)
    assert torch.isfinite(value).all()
    if strength == 0:
        assert (value < 0).all() and (value > -2).all()
    tilted = target.tilted(half, strength)
    assert (tilted.sample(100, generator=0)[:, 0] > 0).all()
    # half of the ring is right of the middle
    half_mass = torch.tensor(strength + math.log(0.5))
    torch.testing.assert_close(tilted.log_normalizer, half_mass, atol=0.02, rtol=0)
