"""The solver against a field with a solution in closed form, x(t) = x(s) e^{a (t-s)}."""

import pytest
import torch

from alignflow.ode import integrate


def growth(x, t):
    return 1.5 * x


def test_growth_is_exponential_in_both_directions_for_each_sample(generator):
    x = torch.randn(5, 2, 3, generator=generator, dtype=torch.float64)
    s, t = torch.rand(2, 5, generator=generator, dtype=torch.float64)
    exact = x * (1.5 * (t - s)).exp()[:, None, None]
    assert torch.allclose(integrate(growth, x, s, t), exact, atol=1e-8)


def test_no_time_is_no_move_even_where_the_field_is_steep():
    x = torch.ones(2, 1)
    assert torch.equal(integrate(lambda x, t: 1e6 * x, x, 0.5, 0.5), x)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_error_follows_the_tolerance(tolerance):
    x = torch.ones(1, 1, dtype=torch.float64)
    end = integrate(growth, x, 0.0, 1.0, tolerance)
    assert abs(end.item() - torch.tensor(1.5).double().exp().item()) < 50 * tolerance


def test_a_sample_is_not_lost_in_the_average_of_a_large_batch():
    """One steep sample among a thousand at rest is followed as well as alone."""
    x = torch.zeros(1000, 1, dtype=torch.float64)
    x[0] = 1.0
    end = integrate(growth, x, 0.0, 1.0, 1e-6)
    assert torch.allclose(end[:1], integrate(growth, x[:1], 0.0, 1.0, 1e-6), atol=1e-9)


def test_parameters_of_the_field_get_their_gradient():
    rate = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    x = torch.ones(1, 1, dtype=torch.float64)
    integrate(lambda x, t: rate * x, x, 0.0, 1.0).sum().backward()
    assert rate.grad is not None and rate.grad.item() == pytest.approx(rate.exp().item(), rel=1e-6)


def test_a_time_outside_of_the_path_is_refused():
    with pytest.raises(ValueError, match=r"lie in \[0, 1\], got 1.5"):
        integrate(growth, torch.ones(1, 1), 0.0, 1.5)


def test_a_way_of_too_many_steps_is_refused():
    """A velocity that turns 10,000 times on the way."""
    x = torch.ones(1, 1)
    with pytest.raises(FloatingPointError, match="cannot be followed .max_num_steps exceeded"):
        integrate(lambda x, t: 1e4 * (6e4 * t)[:, None].sin(), x, 0.0, 1.0)


def test_states_that_cannot_be_followed_are_refused_with_their_size():
    x = torch.tensor([[1.0], [1e30]])
    with pytest.raises(FloatingPointError, match="largest number in its 2 states is 1e\\+30"):
        integrate(lambda x, t: x.square(), x, 0.0, 1.0)


def test_a_velocity_that_is_no_number_is_named_as_what_is_wrong():
    with pytest.raises(FloatingPointError, match="velocity function must give finite numbers, got"):
        integrate(lambda x, t: x * torch.nan, torch.ones(2, 1), 0.0, 1.0)
