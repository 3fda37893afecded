"""Modes of models: what is off inside is as it was outside, whoever else has it off."""

import pytest
from torch import nn

from alignflow.modes import evaluating, frozen


@pytest.fixture
def network() -> nn.Module:
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.BatchNorm1d(2))
    network[2].eval()
    network[0].bias.requires_grad_(False)
    return network


def modes(network: nn.Module) -> tuple[list[bool], list[bool]]:
    return [m.training for m in network.modules()], [p.requires_grad for p in network.parameters()]


@pytest.mark.parametrize("fails", [False, True])
def test_each_part_is_as_it_was(network, fails):
    before = modes(network)
    try:
        with frozen(network, network):
            assert not any(modes(network)[0]) and not any(modes(network)[1])
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert modes(network) == before
    with evaluating(network):
        assert not any(modes(network)[0]) and modes(network)[1] == before[1]
    assert modes(network) == before


def test_calls_that_overlap_hold_it_until_the_last_is_done(network):
    """As two threads do: the first in is the first out, or the last."""
    before = modes(network)
    for order in ([0, 1], [1, 0]):
        calls = [frozen(network), frozen(network)]
        for call in calls:
            call.__enter__()
        calls[order[0]].__exit__(None, None, None)
        assert not any(modes(network)[0]) and not any(modes(network)[1])
        calls[order[1]].__exit__(None, None, None)
        assert modes(network) == before
