"""RAM and AWM: by how much the tilt is not their fixed point, in closed form."""

import pytest
import torch

import alignflow as af
from alignflow.finetuning import AWM, METHODS, RAM
from alignflow.reward_module import reward

from .normal_posterior import covariance, drawn, mean, path_variance, slope

FAST = {"batch_size": 256, "learning_rate": 3e-3, "ema_decay": 0.98}
BOTH = pytest.mark.parametrize("method", [RAM, AWM])
bowl = reward(name="bowl")(lambda x: -x[:, 0].square())


@BOTH
@pytest.mark.parametrize("strength", [0.1, 1.0])
@pytest.mark.parametrize("t", [0.3, 0.8])
def test_at_the_tilt_the_target_misses_it_by_a_difference_of_covariances(
    t, strength, method, normal, generator, bind
):
    """N(0, 1) under -x^2: strength a leads to N(0, 1/(1+2a)), so that both terms of lambda
    Cov_lambda - int_0^lambda Cov_a da are known. Of second order, and not 0."""
    x, tilted = 0.4, 1 / (1 + 2 * strength)
    loss = bind(method, normal, bowl, strength, pool=16, generator=generator)
    x1, direction = drawn(x, t, tilted)
    base, exact = (torch.full_like(x1, slope(t, s) * x) for s in (1, tilted))
    target = loss.blend(direction, base, exact, strength * (9 - x1.square()))
    bias = strength * covariance(x, t, tilted) - (slope(t, tilted) - slope(t)) * x
    assert mean(target - exact) == pytest.approx(bias, rel=1e-10)
    assert abs(bias) > 0.05 * strength**2 * x


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_of_a_linear_reward_of_a_normal_it_is_at_rest_at_the_tilt(
    strength, normal, first, generator, bind
):
    x, t = 0.4, 0.6
    loss = bind(RAM, normal, first, strength, pool=16, generator=generator)
    x1, direction = drawn(x, t, 1.0, strength)
    base = torch.full_like(x1, slope(t) * x)
    exact = base + strength * (1 - t) / path_variance(t)
    found = mean(loss.blend(direction, base, exact, strength * x1) - exact)
    assert found == pytest.approx(0, abs=1e-12)


def test_the_gradient_of_advantage_weighted_matching_is_that_of_ram(normal, first, generator, bind):
    loss = bind(AWM, normal, first, 0.5, pool=16, generator=generator)
    direction, base, model, weight = torch.randn(4, 63, 1, generator=generator).double()
    model.requires_grad_()
    published = weight * (model - direction).square() + (model - base).square()
    matched = (model - loss.blend(direction, base, model, weight).detach()).square()
    found = [torch.autograd.grad(each.sum(), model)[0] for each in (matched, published)]
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 50.0])
def test_advantages_are_never_negative_whatever_the_reward_is(shift, normal, generator, bind):
    shifted = reward(name="shifted")(lambda x: x[:, 0] + shift)
    loss = bind(RAM, normal, shifted, 2.0, pool=64, generator=generator)
    assert (loss.sample_batch(512)["weight"] >= 0).all()
    assert loss.pool.base is normal  # whose samples they are


def test_a_tuning_ends_beside_the_tilt_near_where_the_covariance_puts_it(normal, generator):
    """N(0, 1) under -x^2 at strength 1: the tilt has variance 0.333. The ends of b + lambda Cov_s,
    for s their own variance, have log s = -2 lambda s, 0.426."""
    tuned = af.finetune(normal, bowl, "ram", 1.0, steps=500, pool=2048, generator=generator, **FAST)
    variance = tuned.sample(20_000, 16, generator=generator).var().item()
    assert 0.38 < variance < 0.48


def test_it_reaches_what_it_does_at_once(normal, first):
    assert not METHODS["ram"].takes_stages
    with pytest.raises(ValueError, match="ram reaches its tilt at once"):
        af.finetune(normal, first, "ram", steps=4, annealing_stages=2)
