"""Times by a model's cross-entropy: exact denoisers against quadrature, and I-MMSE."""

import itertools

import numpy as np
import pytest
import torch

import alignflow as af
from alignflow.distillation import CrossEntropyTimes, DecodingTimes, cross_entropy
from alignflow.policies import MLP
from alignflow.targets import Sequences

N = 4000
# three independent bits, each with even odds
BITS = Sequences(torch.tensor(list(itertools.product(range(2), repeat=3))), vocabulary=2)


def bit_entropy(t):
    """H(bit | x_t), nats: log(1 + e^-l), l of mean t^2 / (1-t)^2 and twice that variance."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    nodes, weights = torch.from_numpy(nodes), torch.from_numpy(weights) / (2 * np.pi) ** 0.5
    ratio = (t / (1 - t)).square()[:, None]
    return torch.nn.functional.softplus(-ratio - (2 * ratio).sqrt() * nodes) @ weights


def test_independent_bits_have_the_entropy_of_a_normal_channel():
    t = torch.tensor([0.0, 0.2, 0.4, 0.5, 0.6, 0.8], dtype=torch.float64)
    found = cross_entropy(BITS, BITS, t, rows=N, generator=0)
    # log(1 + e^-l) has a std below .8, and there are 3 N of them
    error = 5 * 0.8 / (3 * N) ** 0.5
    torch.testing.assert_close(found, bit_entropy(t), rtol=0, atol=error)
    assert found[0].item() == pytest.approx(np.log(2), abs=1e-6)


def test_the_cross_entropy_of_the_exact_denoiser_falls_by_half_its_squared_error(generator):
    """I-MMSE, for independent tokens of unequal weights."""
    target = Sequences(["a", "b", "c"], [1.0, 2.0, 5.0])
    t, h = 0.45, 0.02
    times = torch.tensor([t - h, t + h], dtype=torch.float64)
    entropy = cross_entropy(target, target, times, rows=20 * N, generator=0)
    ratio = (times / (1 - times)).square()
    x1 = target.sample(20 * N, generator=generator)
    x = (1 - t) * torch.randn(x1.shape, generator=generator) + t * x1
    error = (x1 - target.denoiser(x, t)).square().sum((1, 2)).double()
    slope = ((entropy[1] - entropy[0]) / (ratio[1] - ratio[0])).item()
    # three standard errors of either side are below 2 %
    assert slope == pytest.approx(-error.mean().item() / 2, rel=0.04)


def test_times_are_uniform_in_the_normalized_cross_entropy(generator):
    times = CrossEntropyTimes(BITS, BITS, uniform_fraction=0.0, rows=N)
    t = times.diagonal(5000, generator).double()
    assert t.min() >= 0 and t.max() < 1
    tau = (np.log(2) - bit_entropy(t)) / np.log(2)
    quantiles = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64)
    torch.testing.assert_close(tau.quantile(quantiles), quantiles, rtol=0, atol=0.03)
    s, t = CrossEntropyTimes(BITS, BITS, boundary=0.25, rows=64).pairs(1000, generator)
    assert (s <= t).all() and ((s == 0) & (t == 1)).float().mean() == pytest.approx(0.25, abs=0.06)


def test_context_decodes_earlier_than_a_position_does():
    names = af.data.names()
    target = Sequences(names)
    middle = torch.tensor(0.5)
    by_model = CrossEntropyTimes(target, names, rows=128, points=40).time(middle)
    assert by_model < DecodingTimes(27).time(middle) - 0.05


def test_a_policy_is_trained_by_them():
    words = Sequences(["ab", "ba"])
    network = af.policies.TokenDiT(2, 3, width=16, depth=1, heads=2)
    policy = af.FlowMapPolicy(network, (2, 3), "simplex", decode=words.vocabulary)
    tokens = words.vocabulary.encode(words.strings)
    times = CrossEntropyTimes(policy, tokens, rows=32)  # its own positions tell it something
    af.pretrain(policy, tokens, steps=2, batch_size=8, times=times, generator=0)


def test_bad_arguments_are_refused():
    class Blind(torch.nn.Module):
        def forward(self, x, s, t, condition=None):
            return torch.zeros_like(x)

    blind = af.FlowMapPolicy(Blind(), (3, 2), "simplex")
    with pytest.raises(ValueError, match="from 0.693 to 0.693 .* the model is not trained"):
        CrossEntropyTimes(blind, BITS, rows=8)
    with pytest.raises(ValueError, match="policy must be a flow map"):
        CrossEntropyTimes(MLP(2, 8, 1), BITS)
    with pytest.raises(ValueError, match="points must be a whole number of at least 2"):
        CrossEntropyTimes(BITS, BITS, points=1)
