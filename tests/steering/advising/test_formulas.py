"""Distances by weights alone, and what is left of a chain's start."""

import math

import pytest
import torch

from alignflow.steering.advising import best_of_n_distance, fit_relaxation, importance_distance


@pytest.mark.parametrize("particles", [1, 2, 3, 40])
def test_importance_of_two_weights_is_a_binomial_sum(particles):
    """A quarter of the samples have weight 5, the others 1."""
    weight = torch.tensor([5.0, 1.0, 1.0, 1.0]).double().repeat(10)
    high = sum(
        math.comb(particles, k) * 0.25**k * 0.75 ** (particles - k) * 5 * k / (particles + 4 * k)
        for k in range(particles + 1)
    )
    exact = abs(high - 5 / 8)
    assert importance_distance(weight, particles) == pytest.approx(exact, abs=1e-5)


def test_the_best_of_n_of_a_rate_is_a_power():
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.0]).double()
    weight = (2 * rewards).exp()
    tilted = (weight / weight.sum())[0].item()
    for particles in (1, 2, 5):
        exact = abs(1 - 0.75**particles - tilted)
        assert best_of_n_distance(rewards, weight, particles) == pytest.approx(exact)


def test_a_dropped_sample_has_no_part_in_the_tilt():
    weight = torch.tensor([0.0, 0.0, 1.0, 1.0]).double()
    assert importance_distance(weight, 1) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("amplitude", "rate"), [(0.4, 0.9), (0.2, 0.5)], ids=str)
def test_a_relaxation_is_found_again(amplitude, rate):
    gap = amplitude * rate ** torch.arange(1, 33).double()
    found = fit_relaxation(gap)
    assert found.amplitude == pytest.approx(amplitude, rel=0.02)
    assert found.rate == pytest.approx(rate, abs=0.01)
    assert found.distance(found.burn_in(0.05)) <= 0.05 < found.distance(found.burn_in(0.05) - 1)
