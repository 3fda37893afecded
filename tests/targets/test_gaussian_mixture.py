"""The exact model against autograd, Bayes' rule, the continuity equation, change of variables."""

import pytest
import torch
from tensordict import TensorDict
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from alignflow.interpolants import score_from_velocity
from alignflow.ode import integrate
from alignflow.targets import GaussianMixture

DIMENSIONS = pytest.mark.parametrize("mixture", [1, 2, 8], indirect=True, ids="D={}".format)
TIMES = pytest.mark.parametrize("t", [0.0, 0.3, 0.9, 1.0])


def states_at(mixture, t, n, generator):
    noise = mixture.noise(n, generator)
    return (1 - t) * noise + t * mixture.sample(n, generator=generator)


def jacobian(function, x):
    """d function(x)_n / d x_n of a function that treats rows alone, (N, D, D)."""
    rows = torch.autograd.functional.jacobian(lambda x: function(x).sum(0), x)
    return rows.permute(1, 0, 2)


@DIMENSIONS
@TIMES
def test_density_on_the_path_is_that_of_the_scaled_and_blurred_mixture(mixture, t, generator):
    x = states_at(mixture, t, 7, generator)
    eye = torch.eye(*mixture.event_shape, dtype=x.dtype)
    blurred = MixtureSameFamily(
        Categorical(mixture.weights),
        MultivariateNormal(t * mixture.means, t**2 * mixture.covariances + (1 - t) ** 2 * eye),
    )
    assert torch.allclose(mixture.log_density(x, t), blurred.log_prob(x), atol=1e-10)


@DIMENSIONS
@TIMES
def test_denoiser_is_the_mean_of_the_posterior_and_velocity_leads_there(mixture, t, generator):
    x = states_at(mixture, t, 7, generator)
    posterior = mixture.posterior(x, t)
    mean = torch.einsum("nc,ncd->nd", posterior.weights, posterior.means)
    assert torch.allclose(mixture.denoiser(x, t), mean, atol=1e-12)
    assert torch.allclose(x + (1 - t) * mixture.velocity(x, t), mean, atol=1e-12)


@DIMENSIONS
def test_velocity_starts_from_the_data_mean_and_ends_at_the_state_itself(mixture, generator):
    x = mixture.sample(7, generator=generator)
    mean = mixture.weights @ mixture.means
    assert torch.allclose(mixture.velocity(x, 0.0), mean - x, atol=1e-12)
    assert torch.allclose(mixture.velocity(x, 1.0), x, atol=1e-12)


@DIMENSIONS
@TIMES
def test_score_is_the_gradient_of_the_log_density(mixture, t, generator):
    x = states_at(mixture, t, 7, generator).requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.log_density(x, t).sum(), x)
    assert torch.allclose(mixture.score(x, t), gradient, atol=1e-10)


@DIMENSIONS
def test_score_follows_from_the_velocity_before_the_end(mixture, generator):
    t = torch.rand(7, generator=generator, dtype=torch.float64) * 0.99
    x = mixture.noise(7, generator)
    converted = score_from_velocity(x, t, mixture.velocity(x, t))
    assert torch.allclose(mixture.score(x, t), converted, rtol=1e-9, atol=1e-9)


@DIMENSIONS
def test_density_obeys_the_continuity_equation(mixture, generator):
    x = mixture.noise(7, generator)
    t = torch.rand(7, generator=generator, dtype=torch.float64)
    rate = torch.func.jvp(lambda t: mixture.log_density(x, t), (t,), (torch.ones_like(t),))[1]
    divergence = jacobian(lambda x: mixture.velocity(x, t), x).diagonal(dim1=1, dim2=2).sum(1)
    carried = (mixture.velocity(x, t) * mixture.score(x, t)).sum(1)
    assert torch.allclose(rate + carried + divergence, torch.zeros_like(rate), atol=1e-9)


@DIMENSIONS
@pytest.mark.parametrize("t", [0.0, 0.3, 0.9])
def test_posterior_density_obeys_bayes_rule(mixture, t, generator):
    x = states_at(mixture, t, 5, generator)
    endpoints = mixture.sample(15, generator=generator).reshape(5, 3, -1)
    likelihood = Normal(t * endpoints, 1 - t).log_prob(x[:, None]).sum(-1)
    prior = mixture.log_density(endpoints.flatten(0, 1)).reshape(5, 3)
    expected = prior + likelihood - mixture.log_density(x, t)[:, None]
    assert torch.allclose(mixture.posterior_log_density(endpoints, x, t), expected, atol=1e-9)
    alone = mixture.posterior_log_density(endpoints[:, 0], x, t)
    assert torch.allclose(alone, expected[:, 0], atol=1e-9)


@DIMENSIONS
def test_at_time_one_the_posterior_is_the_state(mixture, generator):
    x = mixture.sample(5, generator=generator)
    draws = mixture.posterior_sample(x, 1.0, 3, generator)
    assert torch.allclose(draws, x[:, None].expand_as(draws), atol=1e-12)


@DIMENSIONS
def test_posterior_draws_have_the_posterior_moments(mixture, generator):
    n = 40_000
    t = torch.tensor([0.0, 0.4, 0.8], dtype=torch.float64)
    x = states_at(mixture, 0.5, 3, generator)
    draws = mixture.posterior_sample(x, t, n, generator)
    error = draws.std(1) / n**0.5
    assert ((draws.mean(1) - mixture.denoiser(x, t)).abs() < 5 * error).all()
    posterior = mixture.posterior(x, t)
    second = posterior.covariances.diagonal(dim1=2, dim2=3) + posterior.means.square()
    expected = torch.einsum("nc,ncd->nd", posterior.weights, second)
    squares = draws.square()
    assert ((squares.mean(1) - expected).abs() < 5 * squares.std(1) / n**0.5).all()


@DIMENSIONS
def test_samples_have_the_moments_of_the_mixture(mixture, generator):
    n = 40_000
    samples = mixture.sample(n, generator=generator)
    assert (
        (samples.mean(0) - mixture.weights @ mixture.means).abs() < 5 * samples.std(0) / 200
    ).all()
    products = torch.einsum("ni,nj->nij", samples, samples)
    outer = torch.einsum("ci,cj->cij", mixture.means, mixture.means)
    expected = torch.einsum("c,cij->ij", mixture.weights, mixture.covariances + outer)
    assert ((products.mean(0) - expected).abs() < 5 * products.std(0) / n**0.5).all()


@DIMENSIONS
def test_flow_map_carries_the_noise_into_the_mixture(mixture, generator):
    """By change of variables: no sampling error."""
    x = mixture.noise(3, generator)
    end = mixture.flow_map(x, 0.0, 1.0)
    stretch = jacobian(lambda x: mixture.flow_map(x, 0.0, 1.0), x).slogdet().logabsdet
    assert torch.allclose(
        mixture.log_density(end) + stretch, mixture.log_density(x, 0.0), atol=1e-6
    )


def test_flow_map_on_a_line_keeps_the_fraction_of_mass_below(generator):
    mixture = GaussianMixture(
        torch.tensor([0.3, 0.7], dtype=torch.float64),
        torch.tensor([[-1.5], [1.0]], dtype=torch.float64),
        torch.tensor([[[0.2]], [[0.4]]], dtype=torch.float64),
    )
    x = mixture.noise(63, generator)
    end = mixture.flow_map(x, 0.0, 1.0)
    below = Normal(mixture.means.squeeze(1), mixture.covariances.flatten().sqrt()).cdf(end)
    assert torch.allclose(below @ mixture.weights, Normal(0, 1).cdf(x).squeeze(1), atol=1e-8)


@DIMENSIONS
def test_flow_map_is_a_semigroup_with_an_inverse(mixture, generator):
    x = mixture.noise(5, generator)
    s, u, t = torch.rand(3, 5, generator=generator, dtype=torch.float64).sort(0).values
    jump = mixture.flow_map(x, s, t)
    assert torch.allclose(mixture.flow_map(x, s, s), x)
    assert torch.allclose(mixture.flow_map(mixture.flow_map(x, s, u), u, t), jump, atol=1e-7)
    assert torch.allclose(mixture.flow_map(jump, t, s), x, atol=1e-7)


@DIMENSIONS
def test_flow_map_takes_times_and_a_direction_for_each_sample(mixture, generator):
    x = mixture.noise(3, generator)
    s = torch.tensor([0.0, 0.9, 0.5], dtype=torch.float64)
    t = torch.tensor([1.0, 0.2, 0.5], dtype=torch.float64)
    together = mixture.flow_map(x, s, t)
    alone = [mixture.flow_map(x[i : i + 1], s[i].item(), t[i].item()) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-7)


@pytest.mark.parametrize("mixture", [2], indirect=True)
def test_flow_map_has_the_gradients_of_its_solution(mixture, generator):
    mixture.tolerance = 1e-7
    x = mixture.noise(2, generator).requires_grad_()
    s = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.7, 0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mixture.flow_map, (x, s, t), eps=1e-3, atol=1e-4)
    end = mixture.flow_map(x, s, t)
    (rate,) = torch.autograd.grad(end[:, 0].sum(), t)
    assert torch.allclose(rate, mixture.velocity(end, t)[:, 0], atol=1e-5)


@pytest.mark.parametrize("d", [1, 2, 8])
def test_closed_form_of_one_gaussian_is_what_the_ode_gives(d, generator):
    root = torch.randn(d, d, generator=generator, dtype=torch.float64)
    gaussian = GaussianMixture(
        torch.ones(1, dtype=torch.float64),
        torch.randn(1, d, generator=generator, dtype=torch.float64),
        (root @ root.T + 0.1 * torch.eye(d))[None],
    )
    x = gaussian.noise(5, generator)
    s, t = torch.rand(2, 5, generator=generator, dtype=torch.float64)
    by_ode = integrate(gaussian.velocity, x, s, t)
    assert torch.allclose(gaussian.flow_map(x, s, t), by_ode, atol=1e-7)


@DIMENSIONS
def test_posterior_flow_carries_the_noise_into_the_posterior(mixture, generator):
    x = states_at(mixture, 0.6, 3, generator)
    noise = mixture.noise(3, generator)
    end = mixture.posterior_flow(noise[:, None], x, 0.6)[:, 0]
    stretch = jacobian(lambda e: mixture.posterior_flow(e[:, None], x, 0.6)[:, 0], noise)
    density = mixture.posterior_log_density(end, x, 0.6) + stretch.slogdet().logabsdet
    assert torch.allclose(density, mixture.log_density(noise, 0.0), atol=1e-6)


def test_single_precision_keeps_its_dtype_and_three_digits(generator):
    means = torch.tensor([[-1.0, 0.0], [2.0, 1.0]])
    mixture = GaussianMixture(torch.ones(2), means, 0.3 * torch.eye(2).expand(2, 2, 2))
    x = mixture.noise(63, generator)
    end = mixture.flow_map(x, 0.0, 1.0)
    assert end.dtype == torch.float32
    assert torch.allclose(end.double(), mixture.double().flow_map(x.double(), 0, 1), atol=1e-3)


@pytest.mark.parametrize("mixture", [2], indirect=True)
def test_tensordict_form_moves_the_state_to_its_target_time(mixture, generator):
    x = mixture.noise(4, generator)
    time, target = torch.zeros(4).double(), torch.ones(4).double()
    out = mixture(TensorDict({"state": x, "time": time, "target_time": target}, [4]))
    assert torch.equal(out["state"], mixture.flow_map(x, 0.0, 1.0))
    assert torch.equal(out["time"], target)


@pytest.mark.parametrize(
    ("weights", "means", "covariances", "message"),
    [
        (torch.ones(2), torch.zeros(2), torch.eye(2).expand(2, 2, 2), "means must be floats"),
        (torch.ones(3), torch.zeros(2, 2), torch.eye(2).expand(2, 2, 2), r"need weights \(2,\)"),
        (torch.ones(2), torch.zeros(2, 2), torch.eye(2), "covariances"),
        (torch.tensor([1.0, 0.0]), torch.zeros(2, 1), torch.ones(2, 1, 1), "positive and finite"),
        (torch.ones(1), torch.full((1, 1), torch.nan), torch.ones(1, 1, 1), "must be finite"),
        (torch.ones(1), torch.zeros(1, 2), torch.tensor([[[1.0, 0.5], [0.0, 1.0]]]), "symmetric"),
        (torch.ones(1), torch.zeros(1, 2), torch.tensor([[[1.0, 2.0], [2.0, 1.0]]]), "eigenvalue"),
    ],
)
def test_what_is_no_mixture_is_refused(weights, means, covariances, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(weights, means, covariances)


@pytest.mark.parametrize("mixture", [2], indirect=True)
def test_calls_without_an_answer_are_refused(mixture):
    x = torch.zeros(3, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"shape \(N, 2\)"):
        mixture.velocity(torch.zeros(3, 3), 0.5)
    with pytest.raises(ValueError, match="takes no condition"):
        mixture.flow_map(x, 0.0, 1.0, condition=torch.zeros(3))
    with pytest.raises(ValueError, match="no density"):
        mixture.posterior_log_density(x, x, 1.0)
    with pytest.raises(ValueError, match="no flow"):
        mixture.posterior_flow(x[:, None], x, 1.0)
    with pytest.raises(ValueError, match="n must be a whole number of at least 1"):
        mixture.sample(0)
    with pytest.raises(ValueError, match="k must be a whole number of at least 1"):
        mixture.posterior_sample(x, 0.5, 0)
