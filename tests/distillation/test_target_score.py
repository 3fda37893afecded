"""Targets by the score of the data: exact for normal data, and unbiased for any weight."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from alignflow.distillation import TargetScoreLoss
from alignflow.distillation.target_score import target_score_velocity
from alignflow.interpolants import Linear
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.targets import ring


def normal_velocity(x, t, precision):
    """Of data N(0, 1 / precision)."""
    t = t[:, None]
    return (t / precision - (1 - t)) / (t**2 / precision + (1 - t) ** 2) * x


class NormalFlow(nn.Module):
    def forward(self, x, s, t):
        return normal_velocity(x, t, 4.0)


def normal_data(n, precision, generator):
    drawn = torch.randn(2, n, 3, generator=generator, dtype=torch.float64)
    x0, x1 = drawn[0], drawn[1] / precision**0.5
    t = 0.05 + 0.94 * torch.rand(n, generator=generator, dtype=torch.float64)
    return Linear().state(x0, x1, t), x1, t


def test_of_normal_data_the_target_is_the_velocity_itself(generator):
    x, x1, t = normal_data(63, 4.0, generator)
    target = target_score_velocity(x, x1, -4.0 * x1, t, 4.0)
    torch.testing.assert_close(target, normal_velocity(x, t, 4.0))


@pytest.mark.parametrize("information", [0.5, 30.0])
def test_its_mean_is_the_velocity_whatever_the_weight(information, generator):
    """Regressed on the state at one time, 200,000 rows: within five standard errors."""
    n = 200_000
    x, x1, _ = normal_data(n, 4.0, generator)
    t = torch.full((n,), 0.6, dtype=torch.float64)
    x = Linear().state(torch.randn(n, 3, generator=generator, dtype=torch.float64), x1, t)
    missed = target_score_velocity(x, x1, -4.0 * x1, t, information) - normal_velocity(x, t, 4.0)
    along = (missed * x).mean(1)
    assert along.mean().abs() < 5 * along.std() / n**0.5
    assert along.std() > 0.01


def test_it_varies_less_than_the_direction_near_the_data(generator):
    target, n = ring(), 4096
    x1 = target.sample(n, generator)
    at = x1.clone().requires_grad_()
    (score,) = torch.autograd.grad(target.log_density(at, 1.0).sum(), at)
    information = score.square().mean().item()
    t = torch.full((n,), 0.95)
    x0 = torch.randn(x1.shape, generator=generator)
    x = Linear().state(x0, x1, t)
    exact = target.velocity(x, t)
    found = target_score_velocity(x, x1, score, t, information) - exact
    assert found.square().mean() < 0.5 * (x1 - x0 - exact).square().mean()


def test_the_exact_flow_of_normal_data_has_no_loss(generator):
    policy = FlowMapPolicy(NormalFlow(), (3,))
    loss = TargetScoreLoss(policy, 4.0, generator=generator)
    x1 = torch.randn(31, 3, generator=generator) / 2
    found = loss(TensorDict({"data": x1, "score": -4.0 * x1}))["loss_diagonal"]
    assert found < 1e-9


def test_it_has_a_gradient_in_the_policy(generator):
    policy = FlowMapPolicy(MLP(3, width=8, depth=1), (3,))
    loss = TargetScoreLoss(policy, 4.0, generator=generator)
    x1 = torch.randn(7, 3, generator=generator)
    loss(TensorDict({"data": x1, "score": -4.0 * x1}))["loss_diagonal"].backward()
    assert sum(p.grad.abs().sum() for p in policy.parameters() if p.grad is not None) > 0


def test_an_information_must_be_positive():
    with pytest.raises(ValueError, match="information"):
        TargetScoreLoss(FlowMapPolicy(MLP(3, width=8, depth=1), (3,)), 0.0)
