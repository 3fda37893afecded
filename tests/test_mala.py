"""Langevin moves: the distribution is invariant, and steep densities are left."""

import pytest
import torch

from alignflow.mala import move, point_at

STD = torch.tensor([0.5, 2.0], dtype=torch.float64)


def log_density(x):
    return -(x / STD).square().sum(1) / 2


@pytest.mark.parametrize(
    "size", [0.3, torch.linspace(0.1, 0.5, 20_000).double()], ids=["one", "each"]
)
def test_samples_of_a_gaussian_stay_samples_of_it(size, generator):
    n = 20_000
    at = point_at(log_density, STD * torch.randn(n, 2, generator=generator, dtype=torch.float64))
    for _ in range(10):
        at, accepted = move(at, size, log_density, generator)
    assert 0.3 < accepted.double().mean() < 1
    variance = at.state.square().mean(0) / STD.square()
    assert ((variance - 1).abs() < 5 * (2 / n) ** 0.5).all()
    assert (at.state.mean(0).abs() < 5 * STD / n**0.5).all()


def test_other_samples_become_samples_of_it(generator):
    n = 4000
    at = point_at(log_density, torch.zeros(n, 2, dtype=torch.float64))
    for _ in range(150):
        at, _ = move(at, 0.3, log_density, generator)
    variance = at.state.square().mean(0) / STD.square()
    assert ((variance - 1).abs() < 5 * (2 / n) ** 0.5).all()


def test_a_point_knows_the_density_where_it_is(generator):
    at = point_at(log_density, torch.zeros(50, 2, dtype=torch.float64))
    at, accepted = move(at, 0.3, log_density, generator)
    again = point_at(log_density, at.state)
    assert torch.equal(at.log_prob, again.log_prob) and torch.equal(at.grad, again.grad)
    assert torch.equal(accepted, at.state.any(1))


def test_a_steep_fall_does_not_throw_a_state_far_away(generator):
    def steep(x):
        return -1e6 * x.square().sum(1)

    at = point_at(steep, torch.ones(100, 2, dtype=torch.float64))
    at, _ = move(at, 1e-3, steep, generator)
    assert (at.state - 1).abs().max() < 0.5
