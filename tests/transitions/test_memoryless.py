"""The memoryless step: one formula for the SDE, its path KL and the bridge to an endpoint."""

import pytest
import torch
from tensordict import TensorDict

from alignflow.transitions import SDE, bridge, memoryless_std, memoryless_step, step_coefficients


def times(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("data_std", [0.0, 0.7])
def test_it_is_the_step_of_the_sde_with_memoryless_noise(generator, data_std):
    x, velocity = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    s, t = times(0.0, 0.3, 0.6), times(0.4, 0.5, 1.0)
    rows = {"state": x, "velocity": velocity, "time": s, "target_time": t}
    mean, std, factor = SDE(data_std=data_std).moments(TensorDict(rows, [3]))
    found = memoryless_step(x, velocity, s, t, data_std)
    assert torch.equal(found[0], mean) and torch.equal(found[1], std)
    assert torch.equal(factor, step_coefficients(s, t, memoryless_std(s, t), 0.0)[2])


@pytest.mark.parametrize("d", [0.3, 1.0, 2.0])
def test_normal_data_keep_their_marginals_at_any_step_length(d):
    """Of N(0, d^2): b(x) = (d^2 t - (1-t)) x / v(t), with the variance v(t) = d^2 t^2 + (1-t)^2."""
    s, t = times(0.0, 0.2, 0.5, 0.9), times(0.9, 0.3, 0.99, 0.95)
    before, after = (d**2 * r**2 + (1 - r) ** 2 for r in (s, t))
    x = before.sqrt().unsqueeze(1)
    mean, std = memoryless_step(x, ((d**2 * s - (1 - s)) / before).unsqueeze(1) * x, s, t, d)
    torch.testing.assert_close(mean[:, 0] ** 2 + std**2, after)


def test_short_steps_are_those_of_the_sde_dx_is_2b_minus_x_over_t(generator):
    x, velocity = torch.randn(2, 1, 4, generator=generator, dtype=torch.float64)
    s, h = times(0.4), 1e-6
    mean, std = memoryless_step(x, velocity, s, s + h, 1.0)
    torch.testing.assert_close((mean - x) / h, 2 * velocity - x / 0.4, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(std**2 / h, 2 * (1 - s) / s, rtol=1e-4, atol=1e-4)


def test_its_mean_is_the_bridge_to_the_denoiser(generator):
    x, velocity = torch.randn(2, 2, 3, generator=generator, dtype=torch.float64)
    s, t = times(0.2, 0.7), times(0.5, 0.8)
    mean, std = memoryless_step(x, velocity, s, t, 0.0)
    denoiser = x + (1 - s).unsqueeze(1) * velocity
    noise = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    moved = bridge(x, s, denoiser, t, noise)
    torch.testing.assert_close(moved, mean + std.unsqueeze(1) * noise)


def test_a_step_to_time_1_is_the_denoiser_without_noise(generator):
    x, velocity = torch.randn(2, 1, 3, generator=generator, dtype=torch.float64)
    mean, std = memoryless_step(x, velocity, times(0.6), times(1.0), 1.0)
    torch.testing.assert_close(mean, x + 0.4 * velocity)
    assert std == 0
