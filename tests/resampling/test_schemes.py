"""Effective sample size, and schemes that copy each particle by its weight on average."""

import math

import pytest
import torch

from alignflow.draws import uniform as draw_uniform
from alignflow.resampling import SCHEMES, effective_sample_size, normalize_weights, systematic

INF = math.inf


def test_the_effective_sample_size_of_equal_weights_is_their_number():
    torch.testing.assert_close(
        effective_sample_size(torch.full((3, 7), -800.0)), torch.full((3,), 7.0)
    )


def test_the_effective_sample_size_of_known_weights():
    log_weight = torch.tensor([[3.0, 1.0, -INF], [1.0, 0.0, 0.0]], dtype=torch.float64)
    log_weight[0, :2] = log_weight[0, :2].log()
    log_weight[1, 1:] = -INF
    expected = torch.tensor([16 / 10, 1.0], dtype=torch.float64)
    torch.testing.assert_close(effective_sample_size(log_weight), expected)


def test_weights_do_not_depend_on_a_constant_and_do_not_overflow(generator):
    log_weight = torch.randn(5, 9, generator=generator, dtype=torch.float64)
    for shift in (-1e4, 1e4):
        torch.testing.assert_close(
            normalize_weights(log_weight + shift), normalize_weights(log_weight), rtol=1e-9, atol=0
        )


@pytest.mark.parametrize("function", [normalize_weights, effective_sample_size, systematic])
def test_a_system_that_lost_all_its_particles_is_named(function):
    log_weight = torch.tensor([[0.0, -INF], [-INF, -INF]])
    with pytest.raises(ValueError, match="all 2 particles of system 1 have a log-weight of -inf"):
        function(log_weight)


@pytest.mark.parametrize("bad", [math.nan, INF])
def test_log_weights_that_are_no_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="NaN or"):
        effective_sample_size(torch.tensor([[0.0, bad]]))


def test_systematic_resampling_is_unbiased(generator):
    """n = 20,000 systems; a copy number differs from its mean by less than one, so its standard
    deviation is at most 1/2."""
    n, log_weight = 20_000, torch.randn(7, generator=generator).double()
    chosen = systematic(log_weight.expand(n, 7), generator=generator)
    copies = torch.nn.functional.one_hot(chosen, 7).sum(1).double()
    error = 5 * 0.5 / math.sqrt(n)
    assert ((copies.mean(0) - 7 * log_weight.softmax(0)).abs() < error).all()


def test_systematic_resampling_copies_each_particle_floor_or_ceil_of_its_mean(generator):
    log_weight = 2 * torch.randn(500, 63, generator=generator)
    mean = 63 * log_weight.double().softmax(-1)
    copies = torch.nn.functional.one_hot(systematic(log_weight, generator=generator), 63).sum(1)
    assert (copies >= mean.floor() - 1e-9).all() and (copies <= mean.ceil() + 1e-9).all()


def test_one_systematic_draw_is_categorical(generator):
    """n = 40,000 draws, five standard errors."""
    n, weight = 40_000, torch.tensor([0.1, 0.0, 0.6, 0.3], dtype=torch.float64)
    drawn = systematic(weight.log().expand(n, 4), 1, generator)
    assert drawn.shape == (n, 1)
    fraction = torch.bincount(drawn.flatten(), minlength=4) / n
    assert ((fraction - weight).abs() <= 5 * (weight * (1 - weight) / n).sqrt()).all()


def test_a_particle_without_weight_is_never_chosen(generator):
    log_weight = torch.randn(2_000, 5, generator=generator) * 30
    log_weight[:, [0, 4]] = -INF
    chosen = systematic(log_weight, 11, generator)
    assert chosen.min() >= 1 and chosen.max() <= 3


@pytest.mark.parametrize("scheme", ["systematic", "residual", "ssp", "multinomial"])
def test_every_scheme_keeps_each_particle_by_its_weight_on_average(generator, scheme):
    """40,000 systems of 7 particles: copies of i have mean 7 w_i, within five standard errors."""
    log_weight = torch.tensor([0.0, 1.0, -2.0, 0.5, -INF, 0.7, 0.1], dtype=torch.float64)
    systems, m = 40_000, len(log_weight)
    uniform = draw_uniform((systems, m), generator, torch.float64)
    chosen = SCHEMES[scheme](normalize_weights(log_weight.expand(systems, m)), uniform)
    assert chosen.shape == (systems, m)
    copies = torch.nn.functional.one_hot(chosen, m).double().sum(1)
    error = copies.std(0) / math.sqrt(systems)
    expected = m * log_weight.softmax(0)
    assert ((copies.mean(0) - expected).abs() <= 5 * error + 1e-9).all()
    if scheme != "multinomial":
        assert (copies >= expected.floor() - 1e-9).all()
    if scheme in ("systematic", "ssp"):
        assert ((copies - expected).abs() < 1 + 1e-9).all()


def test_effective_sample_size_counts_the_weights_that_matter():
    log_weight = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -torch.inf, -torch.inf]])
    assert torch.allclose(effective_sample_size(log_weight), torch.tensor([4.0, 2.0]))
    assert torch.allclose(effective_sample_size(log_weight + 1000), torch.tensor([4.0, 2.0]))
    uneven = torch.tensor([3.0, 1.0]).log()
    assert effective_sample_size(uneven).item() == pytest.approx(16 / 10)
