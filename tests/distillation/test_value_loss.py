"""The deviance of a value: its minimizer, its labels that rows share, dropped samples."""

import math

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from alignflow.distillation import UniformTimes
from alignflow.distillation.value_loss import ValueLoss, deviance, shared_log_labels
from alignflow.targets import GaussianMixture
from alignflow.targets.rewards import Linear
from alignflow.values import ValueFunction

POWERS = [1.0, 1.3, 1.5, 2.0]


def normal(generator, *shape) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def mixture() -> GaussianMixture:
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    means = torch.tensor([[-1.5, 0.0], [1.0, 0.5]], dtype=torch.float64)
    covariances = torch.tensor([0.2, 0.4], dtype=torch.float64)[:, None, None] * torch.eye(2)
    return GaussianMixture(weights, means, covariances)


class Shifted(ValueFunction):
    """The exact value of a target and a reward, with a shift that is a parameter."""

    def __init__(self, target, reward):
        super().__init__("linear", "", (2,), (0.5, 2.0))
        self.target, self.scored = target, reward
        self.shift = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, t, strength, condition=None):
        rows = zip(x.split(1), t, strength, strict=True)
        exact = [self.target.value(row, s, self.scored, of.item()) for row, s, of in rows]
        return torch.cat(exact) + self.shift


@pytest.mark.parametrize("power", POWERS)
def test_the_exact_value_is_the_minimizer_on_a_finite_space(power, generator):
    """Every power has the value log E[y | state], of states and labels with any joint table."""
    joint = torch.rand(5, 4, generator=generator, dtype=torch.float64)
    log_label = normal(generator, 4)
    exact = ((joint * log_label.exp()).sum(1) / joint.sum(1)).log()

    def loss(value):
        return (joint * deviance(value[:, None], log_label.expand(5, 4), power)).sum()

    value = exact.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(value), value)
    torch.testing.assert_close(gradient, torch.zeros_like(exact), atol=1e-14, rtol=0)
    assert all(loss(exact) < loss(exact + step * normal(generator, 5)) for step in (0.01, 1.0))


@pytest.mark.parametrize("power", POWERS)
def test_the_derivative_is_that_of_the_formula(power, generator):
    value, log_label = normal(generator, 7).requires_grad_(), normal(generator, 7)
    (gradient,) = torch.autograd.grad(deviance(value, log_label, power).sum(), value)
    exact = ((1 - power) * value).exp() * (value.exp() - log_label.exp())
    torch.testing.assert_close(gradient, exact)


def test_a_label_of_0_pushes_the_value_down_and_stays_finite():
    value = torch.zeros(1, requires_grad=True)
    for power in POWERS:
        loss = deviance(value, torch.tensor([-math.inf]), power).sum()
        assert loss.isfinite() and torch.autograd.grad(loss, value)[0] > 0


def test_rows_that_share_their_labels_have_the_posterior_mean_of_the_batch(generator):
    x1, t = normal(generator, 6, 2), torch.rand(6, generator=generator, dtype=torch.float64)
    x, log_weight = normal(generator, 6, 2), normal(generator, 6, 6)
    found = shared_log_labels(x, t, x1, log_weight)
    for i in range(6):
        fit = -(x[i] - t[i] * x1).square().sum(1) / (2 * (1 - t[i]) ** 2)
        exact = (fit.softmax(0) * log_weight[i].exp()).sum().log()
        torch.testing.assert_close(found[i], exact)


@pytest.mark.parametrize("power", [1.0, 1.5])
@pytest.mark.parametrize("conditioned", [False, True], ids=["shared labels", "own labels"])
def test_the_gradient_vanishes_at_the_exact_value(power, conditioned, generator):
    """60 batches of 64; five standard errors of the gradient in a shift of the value."""
    target, reward = mixture(), Linear(torch.tensor([0.5, 0.3], dtype=torch.float64))
    value = Shifted(target, reward)
    loss = ValueLoss(value, power, UniformTimes(), generator)
    gradients = []
    for _ in range(60):
        x1 = target.sample(64, generator=generator)
        batch = TensorDict({"data": x1, "reward": reward.score(x1)}, batch_size=64)
        if conditioned:
            batch["condition"] = torch.zeros(64)
        (gradient,) = torch.autograd.grad(loss(batch)["loss_value"], value.shift)
        gradients.append(gradient)
    found = torch.stack(gradients)
    assert found.mean().abs() < 5 * found.std() / 60**0.5
    # and it would be seen: a shift of 0.3 is far outside
    with torch.no_grad():
        value.shift.add_(0.3)
    (shifted,) = torch.autograd.grad(loss(batch)["loss_value"], value.shift)
    assert shifted > 5 * found.std() / 60**0.5


def test_a_dropped_sample_is_of_label_0_and_breaks_nothing(generator):
    class Constant(ValueFunction):
        def __init__(self):
            super().__init__("r", "", (1,), (0.0, 2.0))
            self.level = nn.Parameter(torch.zeros(()))

        def forward(self, x, t, strength, condition=None):
            return strength * self.level

    value = Constant()
    for condition in ({}, {"condition": torch.zeros(3)}):
        batch = {"data": torch.randn(3, 1), "reward": torch.tensor([0.0, -math.inf, 1.0])}
        loss = ValueLoss(value, generator=generator)(TensorDict(batch | condition, batch_size=3))
        loss["loss_value"].backward()
        assert loss["loss_value"].isfinite() and value.level.grad.isfinite()


@pytest.mark.parametrize("power", [0.5, 2.5, "one", math.nan])
def test_a_power_that_has_no_such_minimizer_is_refused(power):
    with pytest.raises(ValueError, match="power must be"):
        ValueLoss(Shifted(mixture(), None), power)
