"""The judge of modes and the error of their weights: any mixture, any dimension, any tilt."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from alignflow.metrics import mode_weights_error, total_variation
from alignflow.targets import (
    ModeJudge,
    mixture,
    mixture_linear_reward,
    mixture_quadratic_reward,
    ring_judge,
    ring_reward,
)

DIMENSIONS = pytest.mark.parametrize("d", [1, 2, 8, 32])


@DIMENSIONS
def test_judge_gives_the_modes_their_probabilities_under_full_covariances(d, generator):
    target = mixture(d).double()
    x = 2 * target.sample(63, generator=generator)
    normal = MultivariateNormal(target.means, target.covariances)
    joint = target.weights.log() + normal.log_prob(x[:, None])
    judge = ModeJudge(target)
    assert torch.allclose(judge(x), joint.log_softmax(1), atol=1e-8)
    assert judge.labels == ("mode 1", "mode 2", "mode 3", "mode 4")


@DIMENSIONS
@pytest.mark.parametrize("reward_of", [mixture_linear_reward, mixture_quadratic_reward])
def test_mode_weights_of_exact_tilted_samples_are_right_and_of_untilted_ones_wrong(
    d, reward_of, generator
):
    """n = 20,000: a fraction deviates by at most sqrt(1 / 4n)."""
    n, target = 20_000, mixture(d)
    tilted = target.tilted(reward_of(target), 1.0)
    found = mode_weights_error(tilted.sample(n, generator=generator), tilted)
    assert found.value < 4 / 2 * 5 * (0.25 / n) ** 0.5
    base = mode_weights_error(target.sample(n, generator=generator), tilted)
    shift = (target.weights - tilted.weights).abs().sum().item() / 2
    assert shift > 0.15
    assert base.value == pytest.approx(shift, abs=0.04)


def test_rates_under_a_tilt_on_a_grid_are_the_weights_of_the_tilted_mixture(generator):
    """And n = 20,000 samples of the grid have them too; modes overlap by less than 1e-3."""
    n, judge, reward = 20_000, ring_judge().double(), ring_reward()
    tilted = judge.mixture.tilted(reward.score, 1.0)
    rates = judge.rates(tilted)
    assert rates.sum().item() == pytest.approx(1)
    assert torch.allclose(rates, judge.mixture.tilted(reward, 1.0).weights, atol=1e-3)
    memberships = judge(tilted.sample(n, generator)).exp()
    assert total_variation(memberships, rates).value < 8 / 2 * 5 * (0.25 / n) ** 0.5
    untilted = judge(judge.mixture.sample(n, generator=generator)).exp()
    assert total_variation(untilted, rates).value > 0.2
