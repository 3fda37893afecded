"""Energies of clusters: published minima, symmetries, gradients, and particles in one place."""

import math

import pytest
import torch

from alignflow.coordinates import mean_free
from alignflow.targets import double_well, energy_reward, lennard_jones


def icosahedron():
    """A center and the twelve corners around it, at distance 1, (1, 13, 3)."""
    golden = (1 + math.sqrt(5)) / 2
    corners = [(one, other * golden) for one in (-1.0, 1.0) for other in (-1, 1)]
    rows = [row for a, b in corners for row in ([0.0, a, b], [a, b, 0.0], [b, 0.0, a])]
    outer = torch.tensor(rows, dtype=torch.float64)
    return torch.cat([torch.zeros(1, 3).double(), outer / outer[0].norm()])[None]


def relaxed(cluster, x):
    """The minimum near a state, by L-BFGS."""
    x = x.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [x], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        energy = cluster(x).sum()
        energy.backward()
        return energy

    optimizer.step(closure)
    return x.detach()


def test_the_pair_part_of_13_has_the_published_minimum_at_the_icosahedron():
    cluster = lennard_jones(13)
    cluster.spring = 0.0
    lowest = cluster(relaxed(cluster, icosahedron()))
    assert lowest.item() == pytest.approx(2 * -44.326801, abs=1e-5)


def test_a_pair_of_particles_has_its_minimum_at_r_m():
    cluster = lennard_jones(2)
    x = torch.zeros(3, 2, 3).double()
    x[:, 1, 0] = torch.tensor([0.9, 1.0, 1.1])
    spring = mean_free(x).square().sum((1, 2)) / 2
    pair = cluster(x) - spring
    assert pair[1].item() == pytest.approx(-2.0) and (pair[[0, 2]] > -2.0).all()


def test_dw4_is_the_formula():
    cluster = double_well()
    x = torch.randn(5, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.zeros(5).double()
    for i in range(4):
        for j in range(i):
            u = (x[:, i] - x[:, j]).norm(dim=1) - 4
            expected += -4 * u**2 + 0.9 * u**4
    torch.testing.assert_close(cluster(x), expected)


@pytest.mark.parametrize("cluster", [double_well(), lennard_jones(13)], ids=["DW-4", "LJ-13"])
def test_energies_know_no_place_no_direction_and_no_names(cluster, generator):
    n, d = cluster.event_shape
    x = 1.5 * torch.randn(4, n, d, generator=generator, dtype=torch.float64)
    turned = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    energy = cluster(x)
    for other in (x + 3.0, x @ turned, x[:, torch.randperm(n, generator=generator)], mean_free(x)):
        torch.testing.assert_close(cluster(other), energy, rtol=1e-8, atol=1e-8)
    assert mean_free(x).mean(1).abs().max() < 1e-12


@pytest.mark.parametrize("cluster", [double_well(), lennard_jones(3)], ids=["DW-4", "LJ-3"])
def test_gradients_are_those_of_differences(cluster, generator):
    n, d = cluster.event_shape
    x = 0.4 * torch.randn(3, n, d, generator=generator, dtype=torch.float64)  # some within the core
    assert torch.autograd.gradcheck(cluster, x.requires_grad_())


def test_overlapping_particles_have_a_finite_energy_and_part():
    cluster = lennard_jones(2)
    x = torch.zeros(2, 2, 3)
    x[1, 1, 0] = 0.1
    x.requires_grad_()
    energy = cluster(x)
    assert torch.isfinite(energy).all() and (energy > 1e4).all()
    (gradient,) = torch.autograd.grad(energy.sum(), x)
    assert torch.isfinite(gradient).all()
    assert gradient[1, 1, 0] < 0 < gradient[1, 0, 0]  # downhill is apart


def test_the_reward_is_minus_the_energy():
    cluster = double_well()
    x = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    reward = energy_reward(cluster)
    torch.testing.assert_close(reward.score(x), -cluster(x))
    assert reward.differentiable


def test_what_is_no_cluster_is_refused():
    with pytest.raises(ValueError, match="particles must be a whole number of at least 2, got 1"):
        lennard_jones(1)
    with pytest.raises(ValueError, match=r"states must be \(N, 4, 2\), got \(3, 8\)"):
        double_well()(torch.zeros(3, 8))
