"""Both KLs are the KL, and their optimum is the tilt; the others are what they say."""

import pytest
import torch

import alignflow as af
from alignflow.finetuning import (
    MMD,
    Direct,
    EndpointDistance,
    EndpointKL,
    MapRollout,
    MemorylessRollout,
    ODERollout,
    PathKL,
)
from alignflow.flow_map import FlowMap
from alignflow.metrics import default_bandwidths, gaussian_kernel
from alignflow.policies import FlowMapPolicy
from alignflow.reward_module import reward
from alignflow.targets import GaussianMixture, mixture

STRENGTH = 1.5


@pytest.fixture
def standard():
    return GaussianMixture(torch.ones(1).double(), torch.zeros(1, 1), torch.ones(1, 1, 1)).double()


@pytest.fixture
def tilted():
    mean = torch.full((1, 1), STRENGTH)
    return GaussianMixture(torch.ones(1).double(), mean, torch.ones(1, 1, 1)).double()


def test_the_path_kl_of_the_tilt_is_the_kl_of_the_endpoints(standard, tilted, generator):
    # the density of the paths is a function of their endpoint, so KL(N(a, 1) | N(0, 1)) = a^2 / 2
    start = torch.randn(100, 1, generator=generator, dtype=torch.float64)
    path = MemorylessRollout(256)(tilted, start, start.new_zeros(100), generator=generator)
    cost = PathKL()(path, standard)
    torch.testing.assert_close(cost, torch.full_like(cost, STRENGTH**2 / 2), rtol=1e-2, atol=0)
    assert PathKL()(path, tilted).abs().max() == 0


class Nudged(FlowMap):
    """A velocity plus a parameter of each call: where all their gradients vanish is the optimum."""

    def __init__(self, model, calls):
        super().__init__(model.event_shape)
        self.model, self.left = [model], None
        self.nudge = torch.nn.Parameter(torch.zeros(calls, dtype=torch.float64))

    def velocity(self, x, t, condition=None):
        return self.model[0].velocity(x, t) + next(self.left)


@pytest.mark.parametrize("jumps", [1, 2, 5, 16])
def test_the_tilted_velocity_is_the_optimum_at_every_node_whatever_the_steps(
    jumps, standard, tilted, generator
):
    model = Nudged(tilted, jumps)
    model.left = iter(model.nudge)
    start = torch.randn(7, 1, generator=generator, dtype=torch.float64)
    path = MemorylessRollout(jumps)(model, start, start.new_zeros(7), generator=generator)
    objective = STRENGTH * path.endpoint.sum() - PathKL()(path, standard).sum()
    (slope,) = torch.autograd.grad(objective, model.nudge)
    assert slope.abs().max() < 1e-10


@pytest.mark.parametrize("probes", [0, 1])  # in one dimension a sign is all there is
def test_the_endpoint_kl_is_the_log_ratio_of_densities(probes, standard, tilted, generator):
    start = torch.randn(100, 1, generator=generator, dtype=torch.float64)
    path = ODERollout(64, probes)(tilted, start, start.new_zeros(100))
    # log N(x; a, 1) - log N(x; 0, 1)
    expected = STRENGTH * path.endpoint[:, 0] - STRENGTH**2 / 2
    torch.testing.assert_close(EndpointKL()(path, standard), expected, rtol=0, atol=2e-3)
    assert EndpointKL()(path, tilted).abs().max() < 1e-3
    torch.testing.assert_close(path.endpoint, start + STRENGTH, rtol=0, atol=1e-3)
    torch.testing.assert_close(path.replay(standard), start, rtol=0, atol=1e-3)


def test_the_tilted_velocity_is_the_optimum_of_the_endpoint_kl(standard, tilted, generator):
    class Shifted(Nudged):
        def velocity(self, x, t, condition=None):
            return self.model[0].velocity(x, t) + self.nudge

    model, half = Shifted(tilted, 1), torch.randn(50, 1, generator=generator, dtype=torch.float64)
    start = torch.cat([half, -half])  # whose mean is that of the law
    path = ODERollout(64, 0)(model, start, start.new_zeros(100))
    objective = STRENGTH * path.endpoint.mean() - EndpointKL()(path, standard).mean()
    (slope,) = torch.autograd.grad(objective, model.nudge)
    assert abs(slope.item()) < 2e-3


def test_probes_and_the_exact_divergence_agree_on_average(generator):
    """4,000 single probes for each of 5 starts; five standard errors."""
    base, tuned = (mixture(3, seed=seed).double() for seed in (0, 1))
    start = torch.randn(5, 3, generator=generator, dtype=torch.float64)

    def ratio(rows, probes):
        path = ODERollout(4, probes)(tuned, rows, rows.new_zeros(len(rows)), generator=generator)
        return EndpointKL()(path, base)

    with torch.no_grad():
        drawn = ratio(start.repeat(4000, 1), 1).reshape(4000, 5)
        error = (drawn.mean(0) - ratio(start, 0)).abs()
    assert (error < 5 * drawn.std(0) / 4000**0.5).all()


def test_a_normal_reaches_its_tilt_by_the_endpoint_kl(normal, first):
    options = {"batch_size": 64, "learning_rate": 1e-2, "ema_decay": 0.98, "steps": 150}
    tuned = af.finetune(
        normal, first, "direct", 1.0, regularizer=EndpointKL(), rollout=ODERollout(4, 0), **options
    )
    for steps in (1, 4):
        x = tuned.sample(20_000, steps, generator=torch.Generator().manual_seed(1))
        # what remains is the training's own error
        assert x.mean().item() == pytest.approx(1, abs=0.08)
        assert x.std().item() == pytest.approx(1, abs=0.08)


def test_memory_for_time_changes_no_gradient(normal, generator):
    start, slopes = torch.randn(5, 1, generator=generator), []
    for recompute in (False, True):
        path = ODERollout(3, 0, recompute)(normal, start, torch.zeros(5))
        parameters = list(normal.parameters())
        slopes.append(torch.autograd.grad(path.endpoint.sum(), parameters))
    torch.testing.assert_close(*slopes)


def test_the_discrepancy_is_the_unbiased_one_over_pairs(normal, generator):
    start, time = torch.randn(6, 1, generator=generator), torch.zeros(6)
    moved = FlowMapPolicy(lambda x, s, t: normal.module(x, s, t) + 0.5, (1,))
    path = MapRollout(1)(moved, start, time)
    assert MMD()(path, moved).abs().max() < 1e-6
    x, y = path.endpoint.detach(), normal.flow_map(start, 0.0, 1.0).detach()
    kernel = gaussian_kernel(default_bandwidths(y))
    total = 0.0
    for i in range(6):
        for j in set(range(6)) - {i}:
            for one, other, sign in ((x, x, 1), (y, y, 1), (x, y, -1), (y, x, -1)):
                total += sign * kernel((one[i] - other[j]).norm()).item()
    assert MMD(3.0)(path, normal).mean().item() == pytest.approx(3 * total / 30, rel=1e-4)


def test_a_gradient_of_the_discrepancy_leads_back(normal, generator):
    start, time = torch.randn(500, 1, generator=generator), torch.zeros(500)
    shift = torch.tensor(0.5, requires_grad=True)
    moved = FlowMapPolicy(lambda x, s, t: normal.module(x, s, t) + shift, (1,))
    cost = MMD()(MapRollout(1)(moved, start, time), normal).mean()
    (slope,) = torch.autograd.grad(cost, shift)
    assert slope > 0


def test_the_endpoint_distance_is_beta_times_the_square(normal, generator):
    start, time = torch.randn(5, 1, generator=generator), torch.zeros(5)
    path = MapRollout(2)(normal, start, time)
    moved = FlowMapPolicy(lambda x, s, t: normal.module(x, s, t) + 0.5, (1,))
    assert EndpointDistance(3.0)(path, normal).abs().max() == 0
    # the state is carried on by the map after the first half, which ends 0.25 away
    first = normal.flow_map(start, 0.0, 0.5) + 0.25
    other = normal.flow_map(first, 0.5, 1.0) + 0.25
    expected = 3 * (path.endpoint - other).square()[:, 0]
    torch.testing.assert_close(EndpointDistance(3.0)(path, moved), expected)


def test_a_path_kl_without_a_stochastic_path_is_refused(normal, first, bind):
    with pytest.raises(ValueError, match="PathKL is not defined on a MapRollout"):
        bind(Direct, normal, first, 1.0, regularizer=PathKL(), rollout=MapRollout())


def test_an_endpoint_kl_without_the_ode_is_refused(normal, first, bind):
    with pytest.raises(ValueError, match="EndpointKL is not defined on a MemorylessRollout"):
        bind(Direct, normal, first, 1.0, regularizer=EndpointKL(), rollout=MemorylessRollout())


@pytest.mark.parametrize("kind", [EndpointDistance, MMD])
@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_a_beta_that_is_no_cost_is_refused(beta, kind):
    with pytest.raises(ValueError, match="beta must be a positive number"):
        kind(beta)


def test_the_distance_holds_on_a_stochastic_path_too(normal, bind):
    @reward(differentiable=True)
    def first(x):
        return x[:, 0]

    rollout = MemorylessRollout(2, start="noise")
    loss = bind(Direct, normal, first, 1.0, regularizer=EndpointDistance(), rollout=rollout)
    assert loss(loss.sample_batch(7))["loss_regularizer"].item() == 0
