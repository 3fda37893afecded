"""Rollouts: the memoryless SDE against closed forms, and gradients cut where they should be."""

import pytest
import torch

from alignflow.finetuning import MapRollout, MemorylessRollout
from alignflow.finetuning.rollouts.memoryless import kl_weight
from alignflow.flow_map import FlowMap
from alignflow.policies import FlowMapPolicy
from alignflow.targets import GaussianMixture
from alignflow.transitions.memoryless import memoryless_step


def of_std(std):
    ones = torch.ones(1, 1, 1)
    return GaussianMixture(ones[0, 0], torch.zeros(1, 1), std**2 * ones).double()


@pytest.fixture
def standard():
    return of_std(1.0)


@pytest.mark.parametrize("d", [1.0, 2.85])
def test_every_marginal_of_the_memoryless_path_is_the_flows(d, generator):
    n = 40_000
    start = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    rollout = MemorylessRollout(4, data_std=d)
    path = rollout(of_std(d), start, start.new_zeros(n), generator=generator)
    for node in path.nodes:
        variance = (d * node.time) ** 2 + (1 - node.time) ** 2
        white = node.state[:, 0].square() / variance
        # a squared normal has variance 2: n = 40,000, 5 standard errors
        assert white.mean().item() == pytest.approx(1, abs=5 * (2 / n) ** 0.5)


def test_a_memoryless_path_forgets_its_noise_at_the_first_step(standard, generator):
    start = torch.randn(7, 1, generator=generator, dtype=torch.float64).requires_grad_()
    endpoint = MemorylessRollout(3)(standard, start, torch.zeros(7).double()).endpoint
    (slope,) = torch.autograd.grad(endpoint.sum(), start)
    assert slope.abs().max() < 1e-12


@pytest.mark.parametrize("data_std", [1.0, 2.85])
def test_short_steps_are_those_of_the_sde(data_std, generator):
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    velocity = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    s = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]).double()
    length, time = 1e-6, s[:, None]
    mean, std = memoryless_step(x, velocity, s, s + length, data_std)
    torch.testing.assert_close((mean - x) / length, 2 * velocity - x / time, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(std**2 / length, 2 * (1 - s) / s, atol=1e-3, rtol=1e-3)
    weight = kl_weight(s, s + length, data_std) / length
    torch.testing.assert_close(weight, s / (1 - s), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("data_std", [1.0, 2.85])
def test_the_weight_of_a_step_is_the_kl_of_its_gaussians(data_std):
    s, t = torch.tensor([0.0, 0.2, 0.5]).double(), torch.tensor([0.3, 0.9, 0.99]).double()
    x, base, tuned = (torch.full((3, 1), value).double() for value in (0.4, 0.1, -0.6))
    mean, std = memoryless_step(x, base, s, t, data_std)
    moved, _ = memoryless_step(x, tuned, s, t, data_std)
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(moved, std[:, None]),
        torch.distributions.Normal(mean, std[:, None]),
    )
    torch.testing.assert_close(kl, kl_weight(s, t, data_std)[:, None] * (tuned - base).square())


def test_the_weights_of_a_path_add_up_to_the_integral():
    times = torch.linspace(0, 0.5, 2001).double()
    # the integral of t / (1-t) from 0 to 1/2
    exact = torch.tensor(2.0).double().log() - 0.5
    assert kl_weight(times[:-1], times[1:], 1.0).sum() == pytest.approx(exact.item(), rel=1e-3)
    ends = kl_weight(torch.tensor([0.0, 0.9]).double(), torch.tensor([0.1, 1.0]).double(), 1.0)
    assert torch.isfinite(ends).all() and (ends > 0).all()


@pytest.mark.parametrize("rollout", [MapRollout(3), MemorylessRollout(3)], ids=["map", "sde"])
def test_a_replay_by_the_same_model_ends_at_the_same_place(rollout, normal, generator):
    start, time = torch.randn(5, 1, generator=generator), torch.rand(5, generator=generator)
    path = rollout(normal, start, time, generator=generator)
    torch.testing.assert_close(path.replay(normal), path.endpoint, atol=0, rtol=0)


class Affine(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.b = torch.nn.Parameter(torch.tensor(-0.4, dtype=torch.float64))

    def forward(self, x, s, t):
        return self.a * x + self.b * s[:, None]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("truncation", [1, 2, None])
def test_the_truncated_gradient_is_the_hand_written_one(truncation, recompute, generator):
    policy = FlowMapPolicy(Affine(), (2,))
    x = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    rollout = MapRollout(4, truncation, recompute=recompute)
    endpoint = rollout(policy, x, torch.zeros(7).double()).endpoint
    found = torch.autograd.grad(endpoint.square().sum(), policy.module.parameters())

    # x <- (1 + a/4) x + b k/16 and its derivatives in a and b, which are 0 before the last jumps
    a, b, y = 0.7, -0.4, x
    da = db = torch.zeros_like(x)
    for k in range(4):
        if 4 - k <= (truncation or 4):
            da, db = (1 + a / 4) * da + y / 4, (1 + a / 4) * db + k / 16
        y = (1 + a / 4) * y + b * k / 16
    torch.testing.assert_close(endpoint, y)
    torch.testing.assert_close(found[0], (2 * y * da).sum())
    torch.testing.assert_close(found[1], (2 * y * db).sum())


def test_a_truncated_memoryless_path_has_nodes_in_its_last_steps_only(normal, generator):
    start = torch.randn(3, 1, generator=generator)
    path = MemorylessRollout(5, truncation=2)(normal, start, torch.zeros(3), generator=generator)
    assert len(path.nodes) == 2
    assert not path.nodes[0].state.requires_grad and path.nodes[1].state.requires_grad


@pytest.mark.parametrize("kind", [MapRollout, MemorylessRollout])
def test_impossible_rollouts_are_refused(kind):
    with pytest.raises(ValueError, match="jumps must be a whole number of at least 1, got 0"):
        kind(0)
    with pytest.raises(ValueError, match="truncation must be a whole number from 1 to 2, got 3"):
        kind(2, truncation=3)
    with pytest.raises(ValueError, match="start must be one of noise, path, got 'data'"):
        kind(2, start="data")


def test_a_flow_map_is_all_that_a_rollout_asks_for(generator):
    class Still(FlowMap):
        def velocity(self, x, t, condition=None):
            return torch.zeros_like(x)

        def flow_map(self, x, s, t, condition=None):
            return x

    start = torch.randn(3, 2, generator=generator)
    assert MapRollout(2)(Still((2,)), start, torch.zeros(3)).endpoint is start
