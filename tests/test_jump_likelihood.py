"""The density of few-step maps against closed forms, the ODE's, and what they make of weights."""

import math
import warnings

import pytest
import torch

from alignflow.coordinates import from_relative, to_relative
from alignflow.distillation import UniformTimes, pretrain
from alignflow.jump_likelihood import (
    invert_jump,
    jump_log_density,
    jump_with_log_det,
    sample_with_jump_density,
)
from alignflow.likelihood import log_density
from alignflow.policies import EGNN, MLP, FlowMapPolicy, from_flow_map, from_velocity
from alignflow.targets import mixture, ring

MATRIX = torch.tensor([[1.5, 0.4], [-0.3, 0.8]], dtype=torch.float64)


def linear():
    """Jumps x -> x + (t - s) (A x + 1), whose Jacobian is I + (t - s) A."""
    return from_flow_map(lambda x, s, t: x + (t - s)[:, None] * (x @ MATRIX.mT + 1), (2,)).double()


def network(dimension=3, **options):
    torch.manual_seed(0)
    return FlowMapPolicy(MLP(dimension, width=16, depth=2), (dimension,), **options)


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# --- closed forms ---


@pytest.mark.parametrize("grid", [[0.0, 1.0], [0.0, 0.3, 1.0], [0.0, 0.2, 0.5, 1.0]], ids=len)
def test_a_linear_map_has_the_density_of_its_normal_distribution(grid, generator):
    whole, offset = torch.eye(2), torch.zeros(2)
    for s, t in zip(grid[:-1], grid[1:], strict=True):
        jump = torch.eye(2) + (t - s) * MATRIX
        whole, offset = jump @ whole, jump @ offset + (t - s)
    exact = torch.distributions.MultivariateNormal(offset, whole @ whole.mT)
    x, density = sample_with_jump_density(linear(), 30, generator, grid=grid)
    torch.testing.assert_close(density, exact.log_prob(x))
    torch.testing.assert_close(jump_log_density(linear(), x, grid=grid), exact.log_prob(x))


def test_the_exact_map_of_a_mixture_has_its_density_in_any_number_of_jumps(generator):
    target = mixture(3).double()
    for steps in (1, 3):
        x, density = sample_with_jump_density(target, 20, generator, steps=steps)
        # the map is by an ODE itself, of tolerance 1e-9
        torch.testing.assert_close(density, target.log_density(x, 1.0), rtol=0, atol=1e-5)


def test_samples_are_those_of_the_model():
    policy = network()
    x, _ = sample_with_jump_density(policy, 7, 3, steps=2)
    torch.testing.assert_close(x, policy.sample(7, steps=2, generator=3), rtol=0, atol=0)


def test_euler_steps_tend_to_the_density_of_the_ode(generator):
    policy = network()
    euler = from_flow_map(lambda x, s, t: x + (t - s)[:, None] * policy.velocity(x, s), (3,))
    x = torch.randn(5, 3, generator=generator)
    with torch.no_grad():
        exact = log_density(policy, x)
        errors = [(jump_log_density(euler, x, steps=n) - exact).abs().max() for n in (16, 32)]
    assert errors[1] < 0.02 and 1.7 < errors[0] / errors[1] < 2.3


# --- Jacobians ---


def test_the_determinant_is_that_of_autograds_jacobian(generator):
    policy = network(4)
    x = torch.randn(3, 4, generator=generator)
    moved, found = jump_with_log_det(policy, x, 0.2, 0.9)
    torch.testing.assert_close(moved, policy.flow_map(x, 0.2, 0.9))
    for row, log_det in zip(x, found, strict=True):
        matrix = torch.autograd.functional.jacobian(
            lambda row: policy.flow_map(row[None], 0.2, 0.9)[0], row
        )
        torch.testing.assert_close(log_det, matrix.det().abs().log())


def test_without_a_graph_nothing_requires_a_gradient(generator):
    x = torch.randn(3, 3, generator=generator)
    with torch.no_grad():
        moved, log_det = jump_with_log_det(network(), x, 0.0, 1.0)
    assert not moved.requires_grad and not log_det.requires_grad


def test_the_gradient_in_the_data_is_the_score(generator):
    policy = network(2)
    x = torch.randn(4, 2, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: jump_log_density(policy, x, steps=2), x, atol=1e-4)


def test_the_gradient_in_the_parameters_is_that_of_differences(generator):
    policy = network(2)
    x, parameter = torch.randn(4, 2, generator=generator), list(policy.parameters())[-1]
    (found,) = torch.autograd.grad(jump_log_density(policy, x, steps=2).sum(), parameter)
    shifted = []
    for change in (1e-5, -1e-5):
        with torch.no_grad():
            parameter[0] += change
            shifted.append(jump_log_density(policy, x, steps=2).sum())
            parameter[0] -= change
    torch.testing.assert_close(found[0], (shifted[0] - shifted[1]) / 2e-5, rtol=1e-5, atol=1e-7)


def test_the_jacobian_of_a_cluster_is_that_of_its_relative_coordinates(generator):
    """On all coordinates the map keeps the mean: the determinants are equal."""
    torch.manual_seed(0)
    policy = FlowMapPolicy(EGNN(4, 2, width=8, depth=2), (3, 2)).double()
    x = policy.noise(3, generator)
    _, found = jump_with_log_det(policy, x, 0.0, 0.5)

    def whole(cluster):
        moved = from_relative(policy.flow_map(to_relative(cluster[None]), 0.0, 0.5))
        return moved[0] + cluster.mean(0)

    for row, log_det in zip(from_relative(x), found, strict=True):
        matrix = torch.autograd.functional.jacobian(whole, row).reshape(8, 8)
        torch.testing.assert_close(log_det, torch.linalg.slogdet(matrix).logabsdet)


# --- weights ---


def test_weights_make_means_of_few_step_samples_unbiased(generator):
    """A wide linear map weighed by a mixture: 40,000 samples; five standard errors."""
    target = mixture(2).double()
    wide = from_flow_map(lambda x, s, t: x * (1 + 2 * (t - s))[:, None], (2,))
    x, density = sample_with_jump_density(wide, 40_000, generator, steps=2)
    weight = (target.log_density(x, 1.0) - density).exp()
    exact = (target.weights[:, None] * target.means).sum(0)
    for values, wanted in ((torch.ones(len(x), 1), torch.ones(1)), (x, exact)):
        terms = weight[:, None] * values
        error = terms.std(0) / math.sqrt(len(x))
        assert ((terms.mean(0) - wanted).abs() < 5 * error).all()
        assert (error < 0.1).all()


# --- inverses ---


@pytest.mark.parametrize("invertible", [False, True])
def test_what_jumped_is_found_again(invertible, generator):
    policy = network(invertible=invertible)
    x = torch.randn(6, 3, generator=generator)
    with torch.no_grad():
        found = invert_jump(policy, policy.flow_map(x, 0.1, 0.8), 0.1, 0.8)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-8)


def test_steps_are_halved_where_newton_would_run_away():
    """x = arctan(y) from afar, where a full step goes further away and back."""
    policy = from_flow_map(lambda x, s, t: x.atan(), (1,))
    x = torch.tensor([[1.4], [-1.2], [0.1]])
    torch.testing.assert_close(invert_jump(policy, x, 0.0, 1.0), x.tan(), rtol=1e-6, atol=0)


def test_a_map_without_an_inverse_is_refused_with_the_rows_that_have_none():
    square = from_flow_map(lambda x, s, t: x.square(), (1,))
    with pytest.raises(FloatingPointError, match="jump from 0 to 1 was found for 2 of 3 rows"):
        jump_log_density(square, torch.tensor([[-1.0], [4.0], [-0.5]]), steps=1)


def test_a_singular_jacobian_is_refused():
    flat = from_flow_map(lambda x, s, t: x * torch.tensor([1.0, 0.0]), (2,))
    with pytest.raises(FloatingPointError, match="singular at 5 of 5 states"):
        sample_with_jump_density(flat, 5, 0, steps=1)


def test_a_map_that_folds_is_warned_of(generator):
    square = from_flow_map(lambda x, s, t: x.square(), (1,))
    with pytest.warns(UserWarning, match="not one-to-one: .* negative determinant at 2 of 3"):
        jump_with_log_det(square, torch.tensor([[-1.0], [2.0], [-3.0]]), 0.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reflected = from_flow_map(lambda x, s, t: -x, (1,))
        sample_with_jump_density(reflected, 4, generator, steps=1)


def test_large_states_and_tokens_are_refused_with_what_to_take():
    large = from_velocity(lambda x, t: x, (3, 32, 32))
    with pytest.raises(ValueError, match=r"3,072 numbers .* up to 1,024: .*\.log_density\("):
        sample_with_jump_density(large, 2)
    tokens = FlowMapPolicy(torch.nn.Identity(), (4, 5), parametrization="simplex")
    with pytest.raises(ValueError, match="simplex have no density"):
        jump_log_density(tokens, torch.zeros(1, 4, 5))


# --- training ---


def test_training_to_be_invertible_lowers_what_the_jump_back_misses():
    torch.set_default_dtype(torch.float32)
    missed = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        policy = FlowMapPolicy(MLP(2, 64, 2), (2,))
        trained = pretrain(
            policy,
            ring(),
            steps=400,
            batch_size=256,
            generator=0,
            diagonal_fraction=0.5,
            times=UniformTimes(boundary=0.2),
            learning_rate=1e-2,
            decay=0.5,
            ema_decay=0.95,
            invertibility=weight,
        )
        assert trained.invertible == bool(weight)
        trained.invertible = True
        with torch.no_grad():
            x = trained.noise(2000, 1)
            back = trained.flow_map(trained.flow_map(x, 0.0, 1.0), 1.0, 0.0)
        missed[weight] = (back - x).square().mean().item()
    assert missed[1.0] < 0.2 * missed[0.0]
