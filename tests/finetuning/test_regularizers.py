"""The path KL is the KL, its optimum is the tilt; the endpoint distance is a distance."""

import pytest
import torch

from alignflow.finetuning import Direct, EndpointDistance, MapRollout, MemorylessRollout, PathKL
from alignflow.flow_map import FlowMap
from alignflow.policies import FlowMapPolicy
from alignflow.reward_module import reward
from alignflow.targets import GaussianMixture

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


def test_a_path_kl_without_a_stochastic_path_is_refused(normal, first):
    with pytest.raises(ValueError, match="PathKL is not defined on a MapRollout"):
        Direct(normal, first, 1.0, regularizer=PathKL(), rollout=MapRollout())


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_a_beta_that_is_no_cost_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be positive"):
        EndpointDistance(beta)


def test_the_distance_holds_on_a_stochastic_path_too(normal):
    @reward(differentiable=True)
    def first(x):
        return x[:, 0]

    rollout = MemorylessRollout(2, start="noise")
    loss = Direct(normal, first, 1.0, regularizer=EndpointDistance(), rollout=rollout)
    assert loss(loss.sample_batch(7))["loss_regularizer"].item() == 0
