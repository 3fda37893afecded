"""The causal transformer: a likelihood that sums to 1, and a cache that changes nothing."""

import pytest
import torch

from alignflow.policies.networks import CausalTransformer

L, V = 4, 3


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = CausalTransformer(L, V, width=16, depth=2, heads=2, end=None).double()
    for p in network.parameters():  # some are 0 at the start
        torch.nn.init.normal_(p, std=0.3)
    return network


def test_the_likelihoods_of_all_strings_sum_to_one(network):
    strings = torch.cartesian_prod(*[torch.arange(V)] * L)
    total = network.log_prob(strings).exp().sum()
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64))


def test_a_position_sees_what_is_before_it_and_nothing_after(network):
    tokens = torch.tensor([[V, 0, 1, 2]])
    changed = tokens.clone()
    changed[0, 2] = 0
    moved = (network(tokens) - network(changed)).abs().amax((0, 2))
    assert (moved[:2] == 0).all() and (moved[2:] > 1e-6).all()


@pytest.mark.parametrize("parts", [[1, 1, 1, 1], [2, 2], [1, 3], [4]], ids=str)
def test_the_cache_changes_nothing_however_the_tokens_come(network, parts):
    tokens = torch.tensor([[V, 0, 1, 2], [V, 2, 2, 1]])
    cache = network.empty_cache(2)
    places = torch.arange(L).split(parts)
    steps = zip(tokens.split(parts, 1), places, strict=True)
    pieces = [network.step(piece, at, cache) for piece, at in steps]
    torch.testing.assert_close(torch.cat(pieces, 1), network(tokens))


def test_samples_have_the_rates_of_the_likelihood(network, generator):
    n = 20_000
    first = network.sample(n, generator)[:, 0]
    start = torch.tensor([[V]])
    rates = network(start).softmax(-1).flatten()
    found = torch.bincount(first, minlength=V) / n
    # five standard errors of a rate
    torch.testing.assert_close(found.double(), rates, rtol=0, atol=5 * 0.5 / n**0.5)


def test_bad_sizes_are_refused(network):
    with pytest.raises(ValueError, match="twice the heads must divide width"):
        CausalTransformer(L, V, width=18, heads=4)
    with pytest.raises(ValueError, match=f"end must be a whole number from 0 to {V - 1}, got {V}"):
        CausalTransformer(L, V, width=16, heads=2, end=V)
    with pytest.raises(ValueError, match="there are 4 positions, got tokens up to 5"):
        network(torch.zeros(1, 5).long())
