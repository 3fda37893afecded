"""Posteriors: the endpoints they write, against the closed forms of a standard normal."""

import pytest
import torch
from tensordict import TensorDict

import alignflow as af
from alignflow.cost import MeteredFlowMap, metered
from alignflow.flow_map import Guided
from alignflow.interpolants import expand_time
from alignflow.posteriors import (
    DenoiserPosterior,
    ExactPosterior,
    FlowMapPosterior,
    GaussianPosterior,
    GLASSPosterior,
    RenoisedPosterior,
    StochasticMapPosterior,
    Velocity,
    combined_look,
)
from alignflow.targets import GaussianMixture


def path_std(t: torch.Tensor) -> torch.Tensor:
    """Standard std of x_t when noise and data are both standard normal."""
    return (t.square() + (1 - t).square()).sqrt()


def standard_normal(event_shape):
    """The exact flow map of standard normal data, of any event shape."""

    def function(x, s, t, condition=None):
        moved = x * expand_time(path_std(t) / path_std(s), x)
        return moved if condition is None else moved + condition

    return af.from_flow_map(function, event_shape)


def batch(generator, event_shape=(3,), rows=7, **more) -> TensorDict:
    state = torch.randn(rows, *event_shape, generator=generator, dtype=torch.float64)
    time = torch.linspace(0, 0.9, rows, dtype=torch.float64)
    return TensorDict({"state": state, "time": time, **more}, batch_size=[rows])


@pytest.mark.parametrize("event_shape", [(1,), (3,), (2, 5), (3, 4, 4)], ids=str)
def test_the_flow_map_posterior_of_a_normal_is_the_state_over_its_std(generator, event_shape):
    tensordict = FlowMapPosterior(standard_normal(event_shape))(batch(generator, event_shape))
    state, time = tensordict["state"], tensordict["time"]
    assert tensordict["endpoint"].shape == (7, 1, *event_shape)
    torch.testing.assert_close(
        tensordict["endpoint"][:, 0], state / expand_time(path_std(time), state)
    )


@pytest.mark.parametrize("event_shape", [(1,), (2, 5)], ids=str)
def test_the_denoiser_posterior_of_a_normal_is_its_regression_on_the_state(generator, event_shape):
    tensordict = DenoiserPosterior(standard_normal(event_shape))(batch(generator, event_shape))
    state, time = tensordict["state"], tensordict["time"]
    mean = expand_time(time / path_std(time).square(), state) * state
    torch.testing.assert_close(tensordict["endpoint"], mean.unsqueeze(1))
    torch.testing.assert_close(tensordict["denoiser"], mean)


def test_the_velocity_that_the_denoiser_posterior_writes_is_the_models(generator):
    model = standard_normal((3,))
    by_denoiser = DenoiserPosterior(model)(batch(generator))
    by_model = Velocity(model)(batch(generator.manual_seed(0)))
    torch.testing.assert_close(by_denoiser["velocity"], by_model["velocity"])


def test_the_denoiser_posterior_is_not_asked_for_at_time_one(generator):
    tensordict = batch(generator)
    tensordict["time"] = torch.ones_like(tensordict["time"])
    with pytest.raises(ValueError, match="0/0 at time 1"):
        DenoiserPosterior(standard_normal((3,)))(tensordict)


@pytest.mark.parametrize("node", [FlowMapPosterior, DenoiserPosterior, Velocity])
def test_a_condition_reaches_the_model(generator, node):
    condition = torch.full((7, 3), 2.0, dtype=torch.float64)
    seen = []

    class Listening(af.FlowMap):
        def velocity(self, x, t, condition=None):
            seen.append(condition)
            return -x

        def flow_map(self, x, s, t, condition=None):
            seen.append(condition)
            return x

    node(Listening((3,)))(batch(generator, condition=condition))
    assert len(seen) == 1 and torch.equal(seen[0], condition)


def test_guidance_doubles_the_forwards_that_a_posterior_counts(generator):
    model = standard_normal((3,))
    rows, counted = batch(generator, condition=torch.zeros(7, 3)), []
    for asked in (MeteredFlowMap(model), Guided(MeteredFlowMap(model), 2.0)):
        with metered() as meter:
            FlowMapPosterior(asked)(rows)
        counted.append(meter.total.nfe / len(rows))
    assert counted == [1, 2]


def test_a_missing_key_is_named_with_the_node_and_its_maker(generator):
    tensordict = batch(generator).exclude("time")
    with pytest.raises(ValueError, match=r"FlowMapPosterior\(\) lacks the key 'time'.*steerer"):
        FlowMapPosterior(standard_normal((3,)))(tensordict)


def test_keys_can_be_renamed(generator):
    node = FlowMapPosterior(standard_normal((3,))).rename(endpoint="ahead", state="x")
    assert (node.in_keys, node.out_keys) == (["x", "time"], ["ahead"])
    tensordict = node(batch(generator).rename_key_("state", "x"))
    assert tensordict["ahead"].shape == (7, 1, 3) and "endpoint" not in tensordict.keys()
    with pytest.raises(ValueError, match="no key reward to rename"):
        node.rename(reward="r")


def mixture() -> GaussianMixture:
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    means = torch.tensor([[-1.5, 0.0], [1.0, 0.5]], dtype=torch.float64)
    covariances = torch.tensor([0.2, 0.4], dtype=torch.float64)[:, None, None] * torch.eye(2)
    return GaussianMixture(weights, means, covariances, tolerance=1e-6)


def drawn(posterior, time: float, generator, rows: int = 2) -> TensorDict:
    state = torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    times = torch.full((rows,), time, dtype=torch.float64)
    tensordict = TensorDict({"state": state, "time": times}, batch_size=[rows])
    posterior.draw(tensordict, generator)
    return posterior(tensordict)


def exact_moments(model, tensordict) -> list[torch.Tensor]:
    """Mean, and second and third central moments, of the posterior by 400,000 exact draws."""
    generator = torch.Generator().manual_seed(9)
    draws = model.posterior_sample(tensordict["state"], tensordict["time"], 400_000, generator)
    mean = draws.mean(1)
    return [mean, *(((draws - mean[:, None]) ** p).mean(1) for p in (2, 3))]


@pytest.mark.parametrize("time", [0.0, 0.25, 0.7])
@pytest.mark.parametrize(
    "make",
    [
        lambda m, k: GLASSPosterior(m, k, inner_steps=200),
        lambda m, k: GLASSPosterior(m, k, inner_steps=25, solver="heun"),
        StochasticMapPosterior,
        lambda m, k: ExactPosterior(m, m, k),
        lambda m, k: RenoisedPosterior(m, k, 6.0, m.log_density),
    ],
    ids=["glass", "glass by heun", "stochastic map", "exact", "renoised"],
)
def test_draws_have_the_moments_of_the_posterior(generator, make, time):
    """5,000 draws of 2 states; five standard errors, and 0.01 for the inner steps' error."""
    model, k = mixture(), 5_000
    tensordict = drawn(make(model, k), time, generator)
    draws = tensordict["endpoint"]
    log_weight = tensordict.get("endpoint_log_weight", torch.zeros(2, k, dtype=torch.float64))
    weight = log_weight.softmax(1).unsqueeze(-1)
    ess = 1 / weight.square().sum(1)
    mean = (weight * draws).sum(1)
    for power, exact in enumerate(exact_moments(model, tensordict), start=1):
        powers = draws if power == 1 else (draws - mean[:, None]) ** power
        found = (weight * powers).sum(1)
        std_error = ((weight * (powers - found[:, None]).square()).sum(1) / ess).sqrt()
        assert ((found - exact).abs() < 5 * std_error + 0.01).all()


@pytest.mark.parametrize("time", [0.05, 0.5, 0.95])
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_the_inner_flow_is_that_of_the_posterior_at_its_order_at_every_time(
    generator, solver, order, time
):
    """100 draws along the same noise; the distribution is broad, so that no path is torn apart."""
    model = mixture()
    errors = []
    for steps in (16, 32):
        posterior = GLASSPosterior(model, 100, steps, solver)
        tensordict = drawn(posterior, time, generator.manual_seed(0))
        noise, state = tensordict["endpoint_noise"], tensordict["state"]
        exact = model.posterior_flow(noise, state, tensordict["time"])
        std = exact.std(1, keepdim=True)
        errors.append(((tensordict["endpoint"] - exact) / std).square().mean().sqrt().item())
    assert errors[0] < {1: 0.12, 2: 0.02}[order]
    assert errors[1] < 1.3 * errors[0] / 2**order


@pytest.mark.parametrize(("t", "u"), [(0.0, 0.0), (0.0, 0.3), (0.4, 0.0), (0.4, 0.7), (0.9, 0.2)])
def test_two_looks_at_the_data_are_one(generator, t, u):
    """E[x1 | x_t, y_u] of a Gaussian, by its precision, is D at the combined look."""
    variance, mean = 0.4, 1.3
    model = GaussianMixture(
        torch.ones(1, dtype=torch.float64),
        torch.tensor([[mean]], dtype=torch.float64),
        torch.tensor([[[variance]]], dtype=torch.float64),
    )
    x, y = torch.randn(2, 5, 1, generator=generator, dtype=torch.float64)
    times = torch.full((5,), t, dtype=torch.float64)
    inner = torch.full((5,), u, dtype=torch.float64)
    state, time = combined_look(x, times, y, inner, 1 - inner)
    precision = 1 / variance + t**2 / (1 - t) ** 2 + u**2 / (1 - u) ** 2
    expected = (mean / variance + t * x / (1 - t) ** 2 + u * y / (1 - u) ** 2) / precision
    torch.testing.assert_close(model.denoiser(state, time), expected)


def test_the_gaussian_posterior_is_exact_for_standard_normal_data(generator):
    model = GaussianMixture(
        torch.ones(1, dtype=torch.float64),
        torch.zeros(1, 2, dtype=torch.float64),
        torch.eye(2, dtype=torch.float64)[None],
    )
    tensordict = drawn(GaussianPosterior(model, 20_000), 0.4, generator)
    posterior = model.posterior(tensordict["state"], 0.4)
    draws, variance = tensordict["endpoint"], posterior.variances[:, 0]
    error = (variance / 20_000).sqrt()
    assert ((draws.mean(1) - posterior.means[:, 0]).abs() < 5 * error).all()
    assert ((draws.var(1) / variance - 1).abs() < 5 * (2 / 20_000) ** 0.5).all()


def test_a_model_without_a_stochastic_map_says_what_would_do():
    with pytest.raises(ValueError, match="no stochastic flow map.*'glass' draws from any model"):
        StochasticMapPosterior(standard_normal((2,)))


def test_exact_draws_need_a_target():
    with pytest.raises(ValueError, match="posterior_sample.*give one as target="):
        ExactPosterior(standard_normal((2,)), standard_normal((2,)), 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda m: GLASSPosterior(m, inner_steps=0),
            "inner_steps must be a whole number",
        ),
        (lambda m: GLASSPosterior(m, solver="leap"), "solver must be one of euler, heun"),
        (lambda m: RenoisedPosterior(m, snr_ratio=1.0), "snr_ratio must be above 1"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(mixture())
