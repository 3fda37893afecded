"""Tempered particles: how far the strength rises, their weights, and what they sample."""

import math

import pytest
import torch

import alignflow as af
from alignflow.resampling import effective_sample_size
from alignflow.steering.chains.tempering import next_fraction
from alignflow.targets import Linear

from .conftest import Normal

SLOPE = torch.tensor([2.0, -1.0], dtype=torch.float64)


def tempered(method: str = "source_mcmc", threshold: float = 0.5, **options):
    population = {"name": "tempering", "threshold": threshold}
    return af.steer(Normal(2), Linear(SLOPE), method, population=population, **options)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_the_strength_rises_by_as_much_as_the_effective_size_allows(threshold):
    """Of 6 systems of 50 particles, one of them flat, in float64."""
    generator = torch.Generator().manual_seed(0)
    exponent = 20 * torch.randn(6, 50, generator=generator, dtype=torch.float64)
    exponent[0] = 3.0
    fraction = torch.linspace(0, 0.9, 6, dtype=torch.float64)
    raised = next_fraction(exponent, fraction, threshold)
    assert raised[0] == 1 and (raised > fraction).all()
    weight = (raised - fraction).unsqueeze(1) * exponent
    found = effective_sample_size(weight)[1:]
    torch.testing.assert_close(found, torch.full_like(found, threshold * 50))


def test_a_dropped_particle_counts_nowhere():
    exponent = torch.tensor([[0.0, 1.0, 5.0, -math.inf], [-math.inf] * 4], dtype=torch.float64)
    fraction = torch.zeros(2, dtype=torch.float64)
    raised = next_fraction(exponent, fraction, 0.5)
    assert raised[0] == next_fraction(exponent[:1, :3], fraction[:1], 0.5)
    assert raised[1] == 0  # none is left to weigh: it moves at the strength where it is


@pytest.mark.parametrize("method", ["waltz", "source_mcmc"])
def test_tempered_particles_sample_the_tilt(method):
    """50 systems of 256: N(lambda a, I), in mean and variance within five errors and 1 / 256."""
    options = {"posterior": "exact"} if method == "waltz" else {}
    steerer = tempered(method, steps=24, particles=256, jumps=1, strength=0.5, **options)
    out = steerer.sample(50, generator=0)
    weight = out["particles", "log_weight"]
    assert (weight == weight[:, :1]).all()
    centered = out["particles", "state"] - SLOPE / 2
    for found, exact in ((centered, 0.0), (centered.square(), 1.0)):
        each = found.mean(1)
        assert ((each.mean(0) - exact).abs() < 5 * each.std(0) / 50**0.5 + 1 / 256).all()


def test_the_weights_estimate_the_normalizer():
    """log E e^{a x} = |a|^2 / 2, by the mean weight of 300 systems of 256 particles."""
    steerer = tempered(steps=12, particles=256, jumps=1, threshold=0.7)
    out = steerer.sample(300, generator=0)
    ratio = (out["particles", "log_weight"][:, 0] - SLOPE.square().sum() / 2).exp()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / 300**0.5


def test_what_is_left_of_the_strength_is_in_the_weights():
    """One step, which does not reach the strength 3, of 1,000 systems of 128 particles."""
    seen = []
    steerer = tempered(steps=1, particles=128, jumps=1, strength=3.0)
    out = steerer.sample(1000, generator=0, callback=lambda _, batch: seen.append(batch))
    fraction = seen[0]["tilt_fraction"].unflatten(0, (1000, 128))
    assert (fraction < 1).all() and (fraction == fraction[:, :1]).all()
    particles = out["particles"]
    constant = particles["log_weight"] - 3 * (1 - fraction) * particles["reward"]
    torch.testing.assert_close(constant, constant[:, :1].expand_as(constant))
    # of the first rise alone, on average that of E e^{f lambda a x}
    exact = (3 * fraction[:, 0]).square() * SLOPE.square().sum() / 2
    ratio = (constant[:, 0] - exact).exp()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / 1000**0.5 + 0.1


def test_the_line_of_a_sample_goes_through_its_ancestors():
    """Each state of a chain is that before it, or was accepted, but where it was resampled."""
    steerer = tempered(steps=12, particles=32, jumps=1)
    batches = []
    out = steerer.sample(
        20,
        generator=1,
        callback=lambda _, batch: batches.append(batch),
        return_chain=True,
    )
    chain, accepted = out["chain"], out["chain_accepted"]
    stayed = (chain[:, 1:] == chain[:, :-1]).all(2)
    assert torch.equal(stayed, ~accepted)
    assert any((batch["ancestor"] != torch.arange(640)).any() for batch in batches)
    reward = Linear(SLOPE)(chain.flatten(0, 1)).unflatten(0, (20, 13))
    torch.testing.assert_close(reward, out["chain_reward"])
