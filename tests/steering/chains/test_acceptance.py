"""Detailed balance of a chain's move, summed and integrated in float64, and its identities."""

import itertools
import math

import pytest
import torch
from torch.distributions import Normal

from alignflow.steering.chains.acceptance import acceptance_log_ratio, strength_of_rows
from alignflow.steering.chains.crank_nicolson import move_log_ratio
from alignflow.targets import Empirical

STATES = torch.tensor([[-1.5], [-0.4], [0.3], [1.2]], dtype=torch.float64)
LOG_WEIGHT = torch.tensor([0.2, -0.5, 0.4, 0.0], dtype=torch.float64)
REWARD = torch.tensor([-1.0, 0.5, 2.0, 0.0], dtype=torch.float64)
STRENGTH = 1.3


def accepted_moves(posterior: torch.Tensor, exponent: torch.Tensor, draws: int) -> torch.Tensor:
    """Chance (X, i, j) to move from i to another j, given posteriors (X, j) at X noised states."""
    states = len(exponent)
    moves = torch.zeros(len(posterior), states, states, dtype=torch.float64)
    for drawn in itertools.product(range(states), repeat=draws):
        proposed = exponent[list(drawn)].expand(states, -1)
        chance = posterior[:, list(drawn)].prod(1)
        for which, new in enumerate(drawn):
            chosen = torch.full((states,), which)
            ratio = acceptance_log_ratio(proposed, chosen, exponent).exp().clamp(max=1)
            weight = proposed[0].softmax(0)[which]
            moves[:, :, new] += chance.unsqueeze(1) * weight * ratio
    return moves


@pytest.mark.parametrize("draws", [1, 2, 3])
@pytest.mark.parametrize("time", [0.05, 0.4, 0.7])
def test_a_waltz_on_four_states_is_in_detailed_balance_with_the_tilt(time, draws):
    """The noised state is integrated on a fine grid, where a trapezoid is exact to rounding."""
    target = Empirical(STATES, LOG_WEIGHT)
    grid = torch.linspace(-9, 9, 4001, dtype=torch.float64).unsqueeze(1)
    posterior = target.posterior_mean(grid, time, torch.eye(4, dtype=torch.float64))
    noising = Normal(time * STATES[:, 0], 1 - time).log_prob(grid).exp()  # (X, i)
    moves = accepted_moves(posterior, STRENGTH * REWARD, draws)
    chain = (noising.unsqueeze(2) * moves).sum(0) * (grid[1] - grid[0])
    tilt = (LOG_WEIGHT + STRENGTH * REWARD).softmax(0)
    flow = tilt.unsqueeze(1) * chain
    torch.testing.assert_close(flow, flow.T, rtol=1e-9, atol=1e-12)
    assert flow[0, 1] > 1e-4


def test_one_proposal_is_accepted_by_the_rule_of_metropolis():
    proposed, current = torch.tensor([[0.3], [-2.0]]), torch.tensor([1.0, -1.5])
    ratio = acceptance_log_ratio(proposed, torch.zeros(2, dtype=torch.long), current)
    torch.testing.assert_close(ratio, proposed[:, 0] - current)


@pytest.mark.parametrize(
    ("proposed", "current", "ratio"),
    [(-math.inf, 0.0, -math.inf), (0.0, -math.inf, math.inf), (-math.inf, -math.inf, math.inf)],
)
def test_a_dropped_sample_is_never_accepted_but_by_another_one(proposed, current, ratio):
    found = acceptance_log_ratio(
        torch.tensor([[proposed]]), torch.zeros(1, dtype=torch.long), torch.tensor([current])
    )
    assert found.item() == ratio


def test_a_dropped_sample_has_no_weight_at_any_strength():
    log_weight = torch.tensor([[2.0, -math.inf], [2.0, -math.inf]])
    found = strength_of_rows(log_weight, torch.tensor([0.0, 0.5]))
    assert found.tolist() == [[0.0, -math.inf], [1.0, -math.inf]]


@pytest.mark.parametrize("step_size", [0.1, 0.7, 1.0])
def test_the_ratio_of_a_langevin_move_is_that_of_its_normal_densities(step_size):
    generator = torch.Generator().manual_seed(0)
    old, new, drift, back = torch.randn(4, 5, 3, 2, generator=generator, dtype=torch.float64)
    rho = math.sqrt(1 - step_size**2)

    def log_move(start, end, gradient):
        mean = rho * start + (1 - rho) * gradient
        return Normal(mean, step_size).log_prob(end).flatten(1).sum(1)

    def log_normal(x):
        return Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1)

    forward = log_normal(old) + log_move(old, new, drift)
    backward = log_normal(new) + log_move(new, old, back)
    size = torch.full((5,), step_size, dtype=torch.float64)
    found = move_log_ratio(old, new, drift, back, size)
    torch.testing.assert_close(found, backward - forward)
