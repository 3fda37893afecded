"""The network that is given forces: equivariant, exact late on the path, and bounded."""

import pytest
import torch

import alignflow as af
from alignflow.coordinates import from_relative, to_relative
from alignflow.likelihood import divergence
from alignflow.policies import EGNN, FlowMapPolicy, ForceEGNN
from alignflow.targets import double_well


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = ForceEGNN("dw4", 2.0, width=8, depth=2, scale=1.5).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


@pytest.fixture
def x(generator):
    return 2 * torch.randn(5, 3, 2, generator=generator, dtype=torch.float64)


def test_it_turns_reflects_and_renames_as_its_input_does(network, x, generator):
    s, t = torch.rand(2, 5, generator=generator, dtype=torch.float64).sort(dim=0).values
    out = network(x, s, t)
    turn = torch.linalg.qr(torch.randn(2, 2, generator=generator, dtype=torch.float64)).Q
    torch.testing.assert_close(network(x @ turn, s, t), out @ turn)
    order = torch.randperm(4, generator=generator)

    def renamed(y):
        return to_relative(from_relative(y)[:, order])

    torch.testing.assert_close(network(renamed(x), s, t), renamed(out))


def test_untrained_it_adds_the_force_late_on_the_path(x):
    """b = x / t + (1-t) / t^2 grad log rho, to first order in 1 - t."""
    network, t = ForceEGNN("dw4", 2.0, width=8, depth=2, scale=1.5).double(), 1 - 1e-5
    times = torch.full((5,), t, dtype=torch.float64)
    rest = network(x, times, times) - EGNN.forward(network, x, times, times)
    at = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(double_well()(from_relative(at)).sum(), at)
    expected = -(1 - t) * gradient / 2 - (1 - t) / 1.5**2 * x
    torch.testing.assert_close(rest - x / t, expected, rtol=1e-3, atol=1e-8)


def test_particles_in_one_place_are_driven_no_further_than_the_noise():
    network = ForceEGNN("lj13", width=8, depth=1)
    times = torch.tensor([0.02, 0.5, 0.95, 0.999])
    out = network(torch.zeros(4, 12, 3), times, times)
    assert out.isfinite().all()
    crowded = 1e-3 * torch.randn(4, 12, 3, generator=torch.Generator().manual_seed(1))
    assert network(crowded, times, times).square().sum(-1).max() < 25


def test_its_divergence_goes_through_the_force(network, x):
    t = torch.linspace(0.3, 0.99, 5, dtype=torch.float64)
    _, found = divergence(lambda x, t: network(x, t, t), x, t)
    h, expected = 1e-6, torch.zeros(5, dtype=torch.float64)
    for i in range(6):
        step = torch.zeros(6, dtype=torch.float64)
        step[i] = h
        step = step.view(3, 2)
        ahead, behind = network(x + step, t, t), network(x - step, t, t)
        expected += ((ahead - behind) / (2 * h)).flatten(1)[:, i]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_policy_of_it_is_saved_and_loaded(tmp_path, generator):
    policy = FlowMapPolicy(ForceEGNN("dw4", width=8, depth=1), (3, 2), decode="particles")
    policy.save(tmp_path / "model")
    loaded = af.load(tmp_path / "model")
    x = loaded.noise(3, generator)
    torch.testing.assert_close(loaded.velocity(x, 0.5), policy.velocity(x, 0.5))


def test_a_value_of_its_policy_is_learned_without_the_forces():
    policy = FlowMapPolicy(ForceEGNN("dw4", width=8, depth=1), (3, 2), decode="particles")
    network = policy.value_network()
    assert type(network) is EGNN and network.takes((3, 2))


def test_it_takes_the_states_of_its_cluster_alone():
    with pytest.raises(ValueError, match="event_shape"):
        FlowMapPolicy(ForceEGNN("dw4"), (3, 3))
    with pytest.raises(ValueError, match="cluster"):
        ForceEGNN("dw5")
