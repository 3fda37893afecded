"""The equivariant network: turned, reflected and renamed as its input, and saved like others."""

import pytest
import torch

import alignflow as af
from alignflow.coordinates import from_relative, to_relative
from alignflow.policies import EGNN, FlowMapPolicy
from alignflow.targets import double_well, energy_reward


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = EGNN(5, 3, width=16, depth=2, scale=1.5).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def test_it_turns_reflects_and_renames_as_its_input_does(network, generator):
    x = to_relative(torch.randn(4, 5, 3, generator=generator, dtype=torch.float64))
    s, t = torch.rand(2, 4, generator=generator, dtype=torch.float64)
    out = network(x, s, t)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    torch.testing.assert_close(network(x @ turn, s, t), out @ turn)
    torch.testing.assert_close(network(x @ -turn, s, t), out @ -turn)
    order = torch.randperm(5, generator=generator)

    def renamed(y):
        return to_relative(from_relative(y)[:, order])

    torch.testing.assert_close(network(renamed(x), s, t), renamed(out))
    assert out.abs().max() > 0.01


def test_messages_start_from_the_features_and_distances_of_both_particles(network, generator):
    """What is computed once for each particle is the linear map of what is known of a pair."""
    features = torch.randn(2, 5, 16, generator=generator, dtype=torch.float64)
    distances = torch.rand(2, 2, 5, 5, generator=generator, dtype=torch.float64)
    layer = network.layers[0]
    grid = (2, 5, 5, 16)
    both = [features[:, :, None].expand(grid), features[:, None].expand(grid)]
    known = torch.cat([*both, *distances[..., None]], dim=-1)
    torch.testing.assert_close(layer._paired(features, *distances), layer.pair(known))


def test_times_matter(network, generator):
    x = torch.randn(4, 4, 3, generator=generator, dtype=torch.float64)
    s, t = torch.rand(2, 4, generator=generator, dtype=torch.float64)
    assert not torch.allclose(network(x, s, t), network(x, s, t + 0.1))
    assert not torch.allclose(network(x, s, t), network(x, s + 0.1, t))


def test_a_policy_of_clusters_is_saved_steered_and_scored(tmp_path, generator):
    policy = FlowMapPolicy(EGNN(4, 2, width=8, depth=1), (3, 2), decode="particles")
    policy.save(tmp_path / "model")
    loaded = af.load(tmp_path / "model")
    x = loaded.noise(3, generator)
    torch.testing.assert_close(loaded.velocity(x, 0.5), policy.velocity(x, 0.5))
    assert loaded.decode(x).shape == (3, 4, 2)
    out = af.steer(loaded, energy_reward(double_well()), "fk", strength=0.1, particles=4, steps=4)
    drawn = out.sample(2, generator=generator)
    expected = -double_well()(from_relative(drawn["state"]))
    torch.testing.assert_close(drawn["reward"], expected, rtol=1e-4, atol=1e-4)


def test_it_takes_no_context():
    policy = FlowMapPolicy(EGNN(4, 2), (3, 2))
    with pytest.raises(ValueError, match="EGNN. cannot be given a context"):
        af.learn_posterior(policy, steps=1)
