"""Random mixtures with emptied modes: what is promised of them, and the network beside MLPs."""

import pytest
import torch

from alignflow.benchmark import FourierNetwork, emptied_mixture, emptied_mixture_reward


@pytest.mark.parametrize("dimension", [2, 8])
@pytest.mark.parametrize("seed", range(1, 11))
def test_a_fifth_of_the_base_weighs_nothing_and_enough_samples_are_effective(dimension, seed):
    base, reward = emptied_mixture(dimension, seed), emptied_mixture_reward(dimension, seed)
    weights = base.tilted(reward, 1.0).weights / base.weights
    assert ((base.weights >= 0.2) & (weights < 1e-5)).any()
    draws = base.sample(100_000, generator=torch.Generator().manual_seed(0))
    weight = reward.score(draws).double().softmax(0)
    fraction = 1 / (weight.square().sum() * len(weight))
    assert 0.1 * 0.95 < fraction < 0.6 * 1.05  # 100,000 draws know it to a percent


def test_a_seed_is_a_mixture_and_another_seed_another_one():
    one, same, other = (emptied_mixture(2, seed) for seed in (1, 1, 2))
    assert torch.equal(one.means, same.means) and not torch.equal(one.means, other.means)


def test_the_fourier_network_is_smooth_in_state_and_times_and_has_the_scale_of_the_data():
    torch.manual_seed(0)
    network = FourierNetwork(3, width=8, depth=2, scale=2.0).double()
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    s, t = torch.rand(2, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    inputs = tuple(value.requires_grad_() for value in (x, s, t))
    assert torch.autograd.gradcheck(network, inputs)
    unit = FourierNetwork(3, width=8, depth=2).double()
    unit.load_state_dict(network.state_dict())
    torch.testing.assert_close(network(2 * x, s, t), 2 * unit(x, s, t))
