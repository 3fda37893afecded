"""Negative-aware fine-tuning: the published gradient, its minimizer, where its stages end."""

from typing import Any

import numpy
import pytest
import torch
from tensordict import TensorDict

import alignflow as af
from alignflow.distillation import PSD
from alignflow.finetuning import NFT

from .normal_posterior import covariance, drawn, mean, path_variance, slope

FAST = {"batch_size": 256, "learning_rate": 3e-3, "ema_decay": 0.98}
TIMES, PARTS = (torch.tensor(each) for each in numpy.polynomial.legendre.leggauss(40))


@pytest.fixture
def loss(normal, first, generator, bind):
    return bind(NFT, normal, first, 0.5, pool=16, generator=generator)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_its_gradient_is_that_of_the_published_contrast(beta, normal, first, generator, bind):
    loss = bind(NFT, normal, first, 0.5, pool=16, beta=beta, generator=generator)
    direction, old, model, weight = torch.randn(4, 63, 1, generator=generator).double()
    model.requires_grad_()
    rho = (0.5 + beta / 2 * 5 * weight).clamp(0, 1)
    better, worse = (old + sign * beta * (model - old) for sign in (1, -1))
    contrast = rho * (better - direction).square() + (1 - rho) * (worse - direction).square()
    (published,) = torch.autograd.grad(contrast.sum(), model)
    matched = (model - loss.blend(direction, old, model, 5 * weight).detach()).square()
    (found,) = torch.autograd.grad(matched.sum(), model)
    torch.testing.assert_close(beta**2 * found, published, rtol=1e-12, atol=1e-12)
    if beta == 1:
        assert 0.1 < ((rho == 0) | (rho == 1)).float().mean()


def moved(loss, x, t, variance, strength):
    """The minimizer at a state of N(0, variance), of the reward -x^2, less the velocity there."""
    x1, direction = drawn(x, t, variance)
    base = torch.full_like(x1, slope(t, variance) * x)
    centered = strength * (variance - x1.square())
    return mean(loss.blend(direction, base, base, centered)) - slope(t, variance) * x


@pytest.mark.parametrize("t", [0.2, 0.9])
def test_the_minimizer_is_the_velocity_and_the_strength_times_the_covariance(t, loss):
    found = moved(loss, 0.4, t, 0.7, 0.3)
    assert found == pytest.approx(0.3 * covariance(0.4, t, 0.7), rel=1e-8)


def next_variance(loss, variance, strength):
    """Of the ends of the minimizer's ODE, whose velocity is linear in the state."""
    times = ((TIMES + 1) / 2).tolist()
    change = [moved(loss, 1.0, t, variance, strength) for t in times]
    return variance * torch.exp(PARTS @ torch.tensor(change).double()).item()


def test_a_stage_of_a_normal_under_a_bowl_is_known(loss):
    """N(0, s) under the reward -x^2 becomes N(0, s e^{-2 h s}): int t (1-t) s^2 / v^2 = s / 2."""
    found = next_variance(loss, 0.8, 0.1)
    assert found == pytest.approx(0.8 * numpy.exp(-2 * 0.1 * 0.8), rel=1e-8)


def test_stages_stop_at_the_tilt_and_their_error_falls_as_one_over_their_number(loss):
    """N(0, 1) under -x^2 at strength 0.5, whose tilt is N(0, 1/2)."""
    errors = []
    for stages in (8, 64):
        variance = 1.0
        for _ in range(stages):
            variance = next_variance(loss, variance, 0.5 / stages)
        errors.append(variance - 0.5)
    assert 0 < -errors[0] < 0.02 and errors[0] / errors[1] == pytest.approx(8, abs=1)


class Shifted(af.FlowMapPolicy):
    """The exact map of N(0.3, 1)."""

    shift: Any = 0.3

    def average_velocity(self, x, s, t, condition=None):
        s, t = s[:, None], t[:, None]
        end = t * self.shift + (x - s * self.shift) * (path_variance(t) / path_variance(s)) ** 0.5
        return (end - x) / (t - s)


@pytest.mark.parametrize("times", [(0.1, 1.0), (0.5, 0.8)])
def test_at_the_map_of_the_tilt_the_induced_velocity_is_the_target_in_mean(
    times, normal, first, generator, bind
):
    """N(0, 1) under the reward x, where a stage is exact: the model is the map of N(0.3, 1)."""
    policy = Shifted(normal.module, (1,)).double()
    base = type(normal)(normal.module, (1,)).double()
    loss = bind(NFT, policy, first, 0.3, base=base, pool=16, generator=generator)
    s, t = (torch.full((40,), time).double() for time in times)
    x1, _ = drawn(0.6, times[0])
    x0 = (0.6 - times[0] * x1) / (1 - times[0])
    rows = TensorDict({"weight": 0.3 * x1[:, 0]}, 40)
    induced, target = loss.induced(rows, x0, x1, s, t)
    assert induced.std() > 0.01
    assert mean(induced - target) == pytest.approx(0, abs=1e-6)
    normal.float()


@pytest.mark.parametrize("options", [{}, {"rule": PSD()}], ids=["induced", "followed"])
def test_a_normal_reaches_its_tilt_by_scores_alone(options, normal, generator):
    tuned = af.finetune(
        normal, lambda x: x[:, 0].numpy(), "nft", 0.8, steps=480, annealing_stages=4, pool=4096,
        refresh_every=60, generator=generator, **options, **FAST,
    )  # fmt: skip
    for steps in (1, 4, 16):
        drawn = tuned.sample(20_000, steps, generator=generator)
        # the tilt is N(0.8, 1); what remains is the training's own error
        assert drawn.mean().item() == pytest.approx(0.8, abs=0.1)
        assert drawn.std().item() == pytest.approx(1, abs=0.1)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="beta must be a positive number, got 0"):
        NFT(beta=0)
