"""Jumps of the inner flow to the posterior as jumps of a plain flow map: where that is exact."""

import pytest
import torch

from alignflow.posteriors import InnerLook
from alignflow.targets import GaussianMixture


def inner(generator, n=64, dimension=2):
    """Inner states, contexts and their times, which are (n,) in [0, 1)."""
    x, state = torch.randn(2, n, dimension, generator=generator, dtype=torch.float64)
    time = torch.rand(n, generator=generator, dtype=torch.float64)
    return x, state, time


@pytest.mark.parametrize("std", [0.3, 1.0, 2.0])
def test_on_the_diagonal_it_is_exact_for_any_data(std, generator):
    model = GaussianMixture(
        torch.tensor([0.3, 0.7], dtype=torch.float64),
        torch.tensor([[-1.5, 0.0], [1.0, 1.0]], dtype=torch.float64),
        torch.tensor([0.2, 0.4], dtype=torch.float64)[:, None, None] * torch.eye(2),
    )
    x, state, time = inner(generator)
    s = torch.rand(64, generator=generator, dtype=torch.float64)
    look = InnerLook(x, s, s, state, time, std)
    found = look.velocity(model.velocity(look.state, look.start))
    exact = model.components.posterior(state, time).velocity(x, s)
    torch.testing.assert_close(look.start, look.end)
    torch.testing.assert_close(found, exact)


@pytest.mark.parametrize("std", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("whole", [True, False], ids=["draws", "jumps to the end"])
def test_the_posterior_of_normal_data_is_met_by_a_jump(whole, std, generator):
    mean = torch.full((1, 2), 0.7, dtype=torch.float64)
    covariance = std**2 * torch.eye(2, dtype=torch.float64)
    model = GaussianMixture(torch.ones(1, dtype=torch.float64), mean, covariance[None])
    x, state, time = inner(generator)
    s = torch.zeros_like(time) if whole else torch.rand(64, generator=generator).double()
    one = torch.ones_like(s)
    look = InnerLook(x, s, one, state, time, std)
    jump = model.flow_map(look.state, look.start, look.end) - look.state
    found = look.velocity(jump / (look.end - look.start)[:, None])
    s, time = s[:, None], time[:, None]
    total = std**2 * time.square() + (1 - time).square()
    middle = mean + std**2 * time / total * (state - time * mean)
    variance = std**2 * (1 - time).square() / total
    scale = (variance / (s.square() * variance + (1 - s).square())).sqrt()
    end = middle + scale * (x - s * middle)
    torch.testing.assert_close(x + (1 - s) * found, end, rtol=1e-5, atol=1e-5)


def test_at_time_0_the_inner_flow_is_the_flow(generator):
    x, state, time = inner(generator)
    s, u = torch.rand(2, 64, generator=generator, dtype=torch.float64).sort(dim=0).values
    look = InnerLook(x, s, u, torch.zeros_like(state), torch.zeros_like(time), 1.5)
    for found, expected in ((look.state, x), (look.start, s), (look.end, u)):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(look.velocity(state), state)


@pytest.mark.parametrize("time", [0.0, 1e-6, 0.5, 1 - 1e-6, 1.0])
def test_it_is_finite_everywhere(time, generator):
    x, state, _ = inner(generator, n=3)
    for s, u in ((0.0, 0.0), (0.0, 1.0), (0.5, 1.0), (1.0, 1.0)):
        times = (torch.full((3,), value, dtype=torch.float64) for value in (s, u))
        look = InnerLook(x, *times, state, torch.full((3,), time).double(), 1.0)
        for value in (look.state, look.start, look.end, look.velocity(x)):
            assert value.isfinite().all()
        assert (look.start <= look.end).all()
