"""The mixed estimator: one mean in any fraction, and that of least variance, in closed form."""

import math

import pytest
import torch
from tensordict import TensorDict

from alignflow.finetuning import MFM, AdjointMatching, MemorylessRollout, MixedEstimator
from alignflow.finetuning.mixed import GradientFraction
from alignflow.finetuning.pools.velocity_matching import PathBatch
from alignflow.finetuning.rollouts.adjoint_matching import backward_steps
from alignflow.finetuning.rollouts.memoryless import velocity_factor
from alignflow.finetuning.rollouts.path_values import PathValues
from alignflow.reward_module import reward

from .normal_posterior import NODES, mean, path_variance, posterior, slope
from .test_paths import GaussianFlow

FRACTIONS = [0.0, 0.3, 1.0]
bowl = reward(differentiable=True, name="bowl")(lambda x: -x[:, 0].square())


class NormalDraws:
    """One draw of the posterior of N(0, 1) a state, at noise that is given."""

    def __init__(self, noise):
        self.noise = noise

    def draw(self, batch, generator=None):
        return batch

    def __call__(self, batch):
        center, std = posterior(batch["state"], batch["time"][:, None])
        return batch.set("endpoint", (center + std * self.noise)[:, None])


def matched(bind, normal, value, noise, x, t, model, strength):
    """The tuner's targets at a state x, for noise (N, 1), and the tuner."""
    seeded = torch.Generator().manual_seed(0)
    loss = bind(MFM, normal, bowl, strength, value=value, pool=16, generator=seeded)
    loss.posterior = NormalDraws(noise)
    state, time = torch.full_like(noise, x), torch.full((len(noise),), t).double()
    base, own = (torch.full_like(noise, each) for each in (slope(t) * x, model))
    at = PathBatch(state, time, torch.zeros_like(noise), base, own, None)
    return loss.target(TensorDict({}, len(noise)), at), loss


@pytest.mark.parametrize("t", [0.2, 0.7])
@pytest.mark.parametrize("model", [-1.0, 2.0])
def test_any_fraction_of_mfm_has_one_mean_at_any_model(t, model, normal, bind):
    """E[b_theta + R (d - b_theta)], which is known: under R = e^{-z^2 / 5} too z is normal.
    Rewards are of single precision."""
    x, strength = 0.4, 0.2
    center, std = posterior(x, t)
    precision = 1 / std**2 + 2 * strength
    weight = math.exp(-strength * center**2 / (std**2 * precision)) / (std * precision**0.5)
    direction = (center / std**2 / precision - x) / (1 - t)
    exact = model + weight * (direction - model)
    for fraction in FRACTIONS:
        value = MixedEstimator(fraction)
        target, _ = matched(bind, normal, value, NODES[:, None], x, t, model, strength)
        assert mean(target) == pytest.approx(exact, rel=1e-6)


def best_fraction(x, t, strength):
    """At the velocity of the tilt: E'[A B] / E'[B^2] of the linear A and B in R A and R B, the
    values' offset and the difference of the two, under R^2, which leaves the posterior normal."""
    center, std = posterior(x, t)
    precision = 1 / std**2 + 4 * strength
    z = (center / std**2 / precision + precision**-0.5 * NODES)[:, None]
    model = slope(t, 1 / (1 + 2 * strength)) * x
    offset = (z - x) / (1 - t) - model
    ascent = -2 * strength * z * (1 - t) / path_variance(t)
    variate = (z - center) / (1 - t) - ascent
    return mean(offset * variate) / mean(variate.square()), model


@pytest.mark.parametrize("t", [0.3, 0.8])
def test_the_fraction_that_is_estimated_is_that_of_least_variance(t, normal, bind):
    """200,000 draws; the estimate is within a hundredth, and no other one has less variance."""
    x, strength = 1.0, 0.5
    exact, model = best_fraction(x, t, strength)
    assert 0.1 < exact < 0.95
    noise = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(1)).double()
    given = (noise, x, t, model, strength)
    _, loss = matched(bind, normal, MixedEstimator(memory=0.0), *given)
    found = loss.fraction(torch.tensor([t]).double()).item()
    assert found == pytest.approx(exact, abs=0.01)
    others = (0.0, exact - 0.05, exact + 0.05, 1.0)
    spread = {
        fraction: matched(bind, normal, MixedEstimator(fraction), *given)[0].var().item()
        for fraction in (exact, *others)
    }
    assert all(spread[exact] < spread[fraction] for fraction in others)


def test_each_part_of_time_has_a_fraction_of_its_own():
    fraction = GradientFraction(MixedEstimator(memory=0.0))
    time = torch.tensor([0.1, 0.1, 0.9, 0.9])
    by_value = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    by_gradient = torch.tensor([[-3.0], [3.0], [0.5], [-0.5]])
    assert torch.equal(fraction.mixed(time, by_value, by_gradient, 0 * by_value), by_value)
    assert fraction(torch.tensor([0.1, 0.5, 0.9])).tolist() == [0.25, 0.0, 1.0]
    mixed = fraction.mixed(time, by_value, by_gradient, 0 * by_value)
    torch.testing.assert_close(mixed[:2], torch.zeros(2, 1))  # all of the variance is gone


@pytest.mark.parametrize(("drift", "linear"), [(0.0, False), (0.0, True), (0.5, True), (1.2, True)])
def test_values_and_gradients_of_paths_have_one_mean(drift, linear):
    """N(0, 1) and models of it whose drift is any, of which a linear reward x has the lean adjoint
    for its gradient, and a bowl has it at the base. 200,000 paths from one state, in three steps,
    five standard errors."""
    n, seeded = 200_000, torch.Generator().manual_seed(2)
    base, model = GaussianFlow(), GaussianFlow(drift)
    state, time = torch.full((n, 1), 0.5).double(), torch.full((n,), 0.2).double()
    path = MemorylessRollout(3, data_std=1.0)(model, state, time, generator=seeded)
    end = path.endpoint
    log_weight, gradient = (0.7 * end, 0.7 + 0 * end) if linear else (-0.7 * end**2, -1.4 * end)
    values, seen = PathValues(log_weight[:, 0], 1.0), []
    for node, stop, velocity, at_end, _ in backward_steps(base, path, -gradient):
        by_value = values.before(node, stop, velocity)
        if by_value is not None:
            factor = velocity_factor(node.time, stop) / (2 * node.weight)
            seen.append(by_value - (velocity - factor[:, None] * at_end))
    assert len(seen) == 2
    for difference in seen:
        error = 5 * difference.std().item() / n**0.5
        assert error < 0.1 and abs(difference.mean().item()) < error


def test_at_the_tilt_of_a_normal_the_value_of_a_path_is_its_value_whatever_follows(first):
    """At b + strength (1-t) / v the log-ratios take away all chance but that of the first step."""

    class Tilted(GaussianFlow):
        def velocity(self, x, t, condition=None):
            shift = (1 - t) / path_variance(t)
            return super().velocity(x, t) + 0.7 * torch.as_tensor(shift).reshape(-1, 1)

    seeded = torch.Generator().manual_seed(2)
    state, time = torch.full((50, 1), 0.5).double(), torch.full((50,), 0.2).double()
    path = MemorylessRollout(4, data_std=1.0)(Tilted(), state, time, generator=seeded)
    values = PathValues(0.7 * path.endpoint[:, 0], 1.0)
    for node, stop, velocity, *_ in backward_steps(GaussianFlow(), path, -0.7 + 0 * state):
        values.before(node, stop, velocity)
    center, std = posterior(0.5, 0.2)
    exact = torch.full((50,), 0.7 * center + 0.7**2 * std**2 / 2).double()
    torch.testing.assert_close(values.value, exact, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("value", [MixedEstimator(), MixedEstimator(0.5)])
def test_adjoint_matching_learns_by_both(value, normal, first, generator, bind):
    loss = bind(
        AdjointMatching, normal, first, 0.5, value=value, rollout=MemorylessRollout(3),
        generator=generator,
    )  # fmt: skip
    loss(loss.sample_batch(32))
    found = loss(loss.sample_batch(32))
    assert set(found.keys()) == set(loss.out_keys) and torch.isfinite(found["loss_adjoint"])
    assert 0 < found["gradient_fraction"] < 1


def test_mfm_logs_the_fraction_of_the_gradient(normal, first, generator, bind):
    loss = bind(MFM, normal, first, 0.5, value=MixedEstimator(), pool=64, generator=generator)
    found = loss(loss.sample_batch(32))
    assert set(found.keys()) == set(loss.out_keys) and 0 <= found["gradient_fraction"] <= 1


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"fraction must be a fraction in \[0, 1\], got 2"):
        MixedEstimator(2)
    with pytest.raises(ValueError, match=r"memory must be a fraction in \[0, 1\), got 1"):
        MixedEstimator(memory=1)
    with pytest.raises(ValueError, match="value must be one of gradient, got 'gradient_free'"):
        AdjointMatching(value="gradient_free")
