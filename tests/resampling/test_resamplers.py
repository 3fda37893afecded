"""Resamplers of finished samples: best of N, importance, and a single particle."""

import math

import pytest
import torch
from tensordict import TensorDict

from alignflow.resampling import BestOfN, Importance, Single
from alignflow.tilt import Tilt

INF = math.inf


def of_strength(strength: float) -> Tilt:
    return Tilt(lambda x: x, strength)


def finished(reward: torch.Tensor) -> TensorDict:
    return TensorDict({"reward": reward.flatten()}, batch_size=[reward.numel()])


def test_best_of_n_keeps_the_best_and_all_weights():
    reward = torch.tensor([[1.0, 3.0, 2.0], [5.0, -INF, 4.0]])
    node = BestOfN(of_strength(2.0))
    log_weight = node.finish(finished(reward))["log_weight"].reshape(2, 3)
    assert torch.equal(log_weight, 2 * reward)
    assert node.choose(reward, log_weight).tolist() == [1, 0]


def test_importance_draws_by_the_weights(generator):
    """n = 20,000 systems of the same three particles, five standard errors."""
    n, reward = 20_000, torch.tensor([0.0, 1.0, -INF])
    node = Importance(of_strength(2.0))
    rewards = reward.expand(n, 3)
    log_weight = node.finish(finished(rewards))["log_weight"].reshape(n, 3)
    chosen = node.choose(rewards, log_weight, generator)
    p = 1 / (1 + math.exp(-2.0))
    assert (chosen == 2).sum() == 0
    assert abs((chosen == 1).double().mean() - p) < 5 * math.sqrt(p * (1 - p) / n)


def test_a_single_particle_weighs_one_unless_it_was_dropped():
    log_weight = Single().finish(finished(torch.tensor([[2.0], [-INF]])))["log_weight"]
    assert log_weight.tolist() == [0.0, -INF]
    with pytest.raises(ValueError, match="one particle a system, got 2"):
        Single().choose(torch.zeros(3, 2), torch.zeros(3, 2))


@pytest.mark.parametrize(
    "node", [BestOfN(of_strength(1.0)), Importance(of_strength(1.0))], ids=repr
)
def test_nothing_is_chosen_where_every_particle_was_dropped(node):
    dropped = torch.full((2, 3), -INF)
    with pytest.raises(ValueError, match="all 3 particles of system 0, 1"):
        node.choose(dropped, dropped)
