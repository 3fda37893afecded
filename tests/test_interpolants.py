"""Conversions against the closed forms of a Gaussian: data N(m, c) on a line, in float64."""

import pytest
import torch

from alignflow.interpolants import (
    Linear,
    Trigonometric,
    as_time,
    average_velocity_from_mean_denoiser,
    check_grid,
    denoiser_from_velocity,
    flow_map_from_average_velocity,
    flow_map_from_mean_denoiser,
    mean_denoiser_from_average_velocity,
    score_from_velocity,
    uniform_grid,
    velocity_from_denoiser,
)

MEAN, VARIANCE = 0.7, 0.3


def gaussian(x, t):
    """Denoiser, velocity and score of N(MEAN, VARIANCE) at time t, by conditioning."""
    total = t**2 * VARIANCE + (1 - t) ** 2
    residual = (x - t * MEAN) / total
    denoiser = MEAN + t * VARIANCE * residual
    velocity = MEAN + (t * VARIANCE - (1 - t)) * residual
    return denoiser, velocity, -residual


@pytest.fixture
def states(generator):
    x = torch.randn(63, 1, generator=generator, dtype=torch.float64)
    return x, torch.rand(63, generator=generator, dtype=torch.float64) * 0.999


def test_denoiser_velocity_and_score_of_a_gaussian_convert_into_each_other(states):
    x, t = states
    denoiser, velocity, score = gaussian(x, t[:, None])
    torch.testing.assert_close(denoiser_from_velocity(x, t, velocity), denoiser, rtol=0, atol=1e-10)
    torch.testing.assert_close(velocity_from_denoiser(x, t, denoiser), velocity, rtol=0, atol=1e-10)
    torch.testing.assert_close(score_from_velocity(x, t, velocity), score, rtol=0, atol=1e-10)


def test_average_velocity_and_mean_denoiser_give_the_same_jump(states, generator):
    x, s = states
    t = torch.lerp(s, torch.ones_like(s), torch.rand(63, generator=generator).double())
    average = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    mean_denoiser = mean_denoiser_from_average_velocity(x, s, average)
    torch.testing.assert_close(
        flow_map_from_mean_denoiser(x, s, t, mean_denoiser),
        flow_map_from_average_velocity(x, s, t, average),
        rtol=0,
        atol=1e-10,
    )
    torch.testing.assert_close(
        average_velocity_from_mean_denoiser(x, s, mean_denoiser), average, rtol=0, atol=1e-10
    )


def test_the_denoiser_at_the_end_is_the_state_itself(states):
    x, _ = states
    end = torch.ones(len(x), dtype=x.dtype)
    torch.testing.assert_close(denoiser_from_velocity(x, end, torch.randn_like(x)), x)


@pytest.mark.parametrize(
    "convert",
    [velocity_from_denoiser, score_from_velocity, average_velocity_from_mean_denoiser],
)
def test_a_quotient_that_is_0_over_0_at_the_end_is_refused(convert):
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="0/0 at time 1"):
        convert(x, torch.tensor([0.5, 1.0]), x)
    with pytest.raises(ValueError, match="0/0 at time 1"):
        flow_map_from_mean_denoiser(x, torch.tensor([0.5, 1.0]), torch.ones(2), x)


@pytest.mark.parametrize("path", [Linear(), Trigonometric()], ids=lambda p: type(p).__name__)
def test_a_path_runs_from_noise_to_data_and_its_velocity_is_its_derivative(path, generator):
    x0, x1 = torch.randn(2, 7, 3, 2, generator=generator, dtype=torch.float64)
    zero, one = torch.zeros(7, dtype=torch.float64), torch.ones(7, dtype=torch.float64)
    torch.testing.assert_close(path.state(x0, x1, zero), x0)
    torch.testing.assert_close(path.state(x0, x1, one), x1)
    t = torch.rand(7, generator=generator, dtype=torch.float64)
    _, derivative = torch.func.jvp(lambda t: path.state(x0, x1, t), (t,), (one,))
    torch.testing.assert_close(path.velocity(x0, x1, t), derivative, rtol=0, atol=1e-10)


def test_a_time_is_a_number_a_scalar_or_one_for_each_state():
    x = torch.zeros(3, 2, dtype=torch.float64)
    for t in (0.5, torch.tensor(0.5), torch.full((3,), 0.5)):
        torch.testing.assert_close(as_time(t, x), torch.full((3,), 0.5, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"\(3,\), got \(2,\)"):
        as_time(torch.zeros(2), x)
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 1.5"):
        as_time(1.5, x)


def test_a_uniform_grid_is_a_grid():
    torch.testing.assert_close(check_grid(uniform_grid(4)), torch.arange(5).double() / 4)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        uniform_grid(0)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([0.0, 0.5, 0.5, 1.0], "increase"),
        ([0.0, float("nan")], "finite"),
        ([0.0, 1.2], "lie in"),
        ([0.0], "at least two"),
    ],
)
def test_what_is_no_grid_is_refused(grid, message):
    with pytest.raises(ValueError, match=message):
        check_grid(torch.tensor(grid))
