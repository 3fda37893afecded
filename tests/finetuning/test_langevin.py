"""Langevin moves against closed forms of what it should sample."""

from functools import partial

import pytest
import torch

import alignflow as af
from alignflow.coordinates import from_relative
from alignflow.finetuning import Langevin
from alignflow.targets import (
    GaussianMixture,
    Linear,
    boltzmann,
    build_cluster,
    energy_reward,
)

N = 4000


def mixture(*parameters):
    return GaussianMixture(*(torch.tensor(p, dtype=torch.float64) for p in parameters))


NORMAL = mixture([1.0], [[0.5, -1.0]], [[[1.0, 0.3], [0.3, 0.5]]])
MODES = mixture([0.3, 0.7], [[-1.0], [1.5]], [[[0.2]], [[0.4]]])


def slope(*along):
    return af.as_reward(Linear(torch.tensor(along)))


def test_samples_of_anything_become_the_tilt(generator):
    """4,000 chains from a point far off; five standard errors."""
    reward, law = slope(1.0, 0.5), NORMAL.tilted(slope(1.0, 0.5), 0.8)
    start = torch.full((N, 2), 6.0, dtype=torch.float64)
    moved = Langevin(NORMAL, 200, 0.1)(start, af.Tilt(reward, 0.8), NORMAL.decode, generator)
    exact, covariance = law.components.means[0], law.components.covariances[0]
    error = (covariance.diagonal() / N).sqrt()
    assert ((moved.mean(0) - exact).abs() < 5 * error).all()
    spread = torch.cov(moved.T)
    allowed = 5 * ((covariance.square() + torch.outer(*[covariance.diagonal()] * 2)) / N).sqrt()
    assert ((spread - covariance).abs() < allowed).all()


def test_samples_of_the_tilt_stay_its_samples(generator):
    """4,000 of two modes under long moves: the masses of both and the moments within five
    standard errors."""
    reward, law = slope(0.7), MODES.tilted(slope(0.7), 1.0)
    start = law.sample(N, generator=generator)
    moved = Langevin(MODES, 30, 0.5)(start, af.Tilt(reward, 1.0), MODES.decode, generator)
    assert (moved != start).double().mean() > 0.9
    fresh = law.sample(N, generator=generator)
    for moment in (lambda x: (x > 0).double(), lambda x: x, torch.square, torch.sin):
        one, other = moment(moved).double(), moment(fresh).double()
        error = ((one.var() + other.var()) / N).sqrt()
        assert (one.mean() - other.mean()).abs() < 5 * error


def test_overlapping_particles_are_led_apart(generator):
    """200 clusters of noise, most of them beyond 10,000 in energy, become cold drops."""
    cluster, reward = build_cluster("lj13"), energy_reward("lj13")
    law, cold = boltzmann("lj13", "hot"), boltzmann("lj13", "cold")
    start = 0.4 * torch.randn(200, 12, 3, generator=generator)
    assert cluster(from_relative(start)).median() > 1e4
    moved = Langevin(law, 600)(start, af.Tilt(reward, 0.5), from_relative, generator)
    energy = cluster(from_relative(moved))
    exact = cluster(from_relative(cold.samples)).mean()
    assert (energy.median() - exact).abs() < 5


def test_a_tuned_model_is_recentered_on_what_was_moved(normal, first, generator):
    """The tuning itself does nothing here: the moves bring its mean to 1."""
    langevin = Langevin(mixture([1.0], [[0.0]], [[[1.0]]]).float(), 100, 0.1)
    still = {"steps": 1, "optimizer": partial(torch.optim.Adam, lr=3e-3), "batch_size": 256}
    options = {"recentering": 300, "langevin": langevin, "generator": generator}
    tuned = af.finetune(normal, first, "tilt", 1.0, **still, **options)
    assert tuned.sample(2000, 4, generator=generator).mean().item() == pytest.approx(1.0, abs=0.15)


def test_what_cannot_be_moved_is_refused(normal, first):
    law, black_box = MODES, af.as_reward(lambda x: x[:, 0])
    options = {"steps": 1, "batch_size": 8}
    with pytest.raises(ValueError, match="langevin would do nothing without recentering"):
        af.finetune(normal, slope(1.0), "tilt", langevin=Langevin(law), **options)
    options |= {"langevin": Langevin(law), "recentering": 1}
    with pytest.raises(ValueError, match="langevin needs a gradient, and reward .* is a black box"):
        af.finetune(normal, black_box, "tilt", **options)
    with pytest.raises(ValueError, match="langevin has one distribution"):
        af.finetune(normal, slope(1.0), "tilt", condition=torch.tensor([0, 1]), **options)
    with pytest.raises(ValueError, match="has none"):
        Langevin(normal)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got 0"):
        Langevin(law, 0)
    with pytest.raises(ValueError, match="black box"):
        Langevin(law)(torch.zeros(2, 1), af.Tilt(black_box, 1.0), law.decode, torch.Generator())


def test_moves_that_are_hardly_accepted_are_warned_of(generator):
    law = mixture([1.0], [[0.0]], [[[1e-8]]])
    with pytest.warns(UserWarning, match="Langevin moves were accepted"):
        Langevin(law, 1, 1.0)(
            law.means.expand(50, 1), af.Tilt(slope(1.0), 1.0), law.decode, generator
        )
