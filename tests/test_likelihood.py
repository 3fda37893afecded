"""The density by the ODE against closed forms; its probes against the exact trace."""

import math

import pytest
import torch

from alignflow.likelihood import divergence, log_density, push, rademacher, sample_with_density
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.targets import mixture, ring


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_the_density_of_a_mixture_is_the_closed_form(dimension, generator):
    target = mixture(dimension).double()
    x = target.sample(20, generator=generator)
    found = log_density(target, x, tolerance=1e-8)
    torch.testing.assert_close(found, target.log_density(x, 1.0), rtol=0, atol=1e-5)


def test_samples_come_with_their_density(generator):
    target = mixture(3).double()
    x, density = sample_with_density(target, 50, generator, tolerance=1e-8)
    assert x.shape == (50, 3)
    torch.testing.assert_close(density, target.log_density(x, 1.0), rtol=0, atol=1e-5)


def test_steps_converge_to_it_in_second_order(generator):
    target = mixture(2).double()
    x = target.sample(20, generator=generator)
    exact = target.log_density(x, 1.0)
    errors = [(log_density(target, x, steps=n) - exact).abs().mean() for n in (32, 64)]
    assert 3 < errors[0] / errors[1] < 5


def test_its_gradient_is_the_score(generator):
    target = mixture(2).double()
    x = target.sample(5, generator=generator).requires_grad_()
    (score,) = torch.autograd.grad(log_density(target, x, tolerance=1e-8).sum(), x)
    (exact,) = torch.autograd.grad(target.log_density(x, 1.0).sum(), x)
    torch.testing.assert_close(score, exact, rtol=1e-4, atol=1e-4)


class Flattened(torch.nn.Module):
    """An MLP on states that are matrices."""

    def __init__(self):
        super().__init__()
        self.network = MLP(6, width=16, depth=2)

    def forward(self, x, s, t):
        return self.network(x.flatten(1), s, t).view_as(x)


def test_the_divergence_is_the_trace_of_the_jacobian(generator):
    torch.manual_seed(0)
    policy = FlowMapPolicy(Flattened(), (2, 3)).double()
    x, t = torch.randn(4, 2, 3, generator=generator).double(), torch.rand(4).double()
    moved, found = divergence(policy.velocity, x, t)
    torch.testing.assert_close(moved, policy.velocity(x, t))
    for i in range(4):
        matrix = torch.autograd.functional.jacobian(
            lambda row, i=i: policy.velocity(row[None], t[i : i + 1])[0], x[i]
        )
        torch.testing.assert_close(found[i], matrix.reshape(6, 6).trace())


def test_probes_are_unbiased(generator):
    """20,000 random signs on each of three states; five standard errors."""
    target = mixture(3).double()
    x, t = target.sample(3, generator=generator), torch.full((3,), 0.8).double()
    _, exact = divergence(target.velocity, x, t)
    probes = rademacher(20_000, x, generator)
    single = torch.stack([divergence(target.velocity, x, t, p[None])[1] for p in probes[:200]])
    _, found = divergence(target.velocity, x, t, probes)
    error = single.std(0) / math.sqrt(len(probes))
    assert ((found - exact).abs() < 5 * error + 1e-12).all()


def test_without_a_graph_nothing_requires_a_gradient(generator):
    target = ring()
    x = target.sample(3, generator=generator)
    with torch.no_grad():
        moved, found = divergence(target.velocity, x, torch.full((3,), 0.5))
    assert not moved.requires_grad and not found.requires_grad


def test_what_is_pushed_there_comes_back(generator):
    target = mixture(2).double()
    x = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    there, out = push(target.velocity, x, 0.0, 1.0, tolerance=1e-9)
    back, home = push(target.velocity, there, 1.0, 0.0, tolerance=1e-9)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-6)
    torch.testing.assert_close(out, -home, rtol=0, atol=1e-6)


def test_fewer_than_no_probes_are_refused():
    with pytest.raises(ValueError, match="probes must be a whole number of at least 0, got -1"):
        log_density(ring(), torch.zeros(1, 2), probes=-1)
