"""Value estimators: closed forms of a Gaussian, gradients against finite differences, refusals."""

import math

import pytest
import torch
from tensordict import TensorDict

import alignflow as af
from alignflow.posteriors import (
    ExactPosterior,
    FlowMapPosterior,
    GLASSPosterior,
    RenoisedPosterior,
    StochasticMapPosterior,
)
from alignflow.resampling import effective_sample_size
from alignflow.targets.gaussian_mixture import GaussianMixture
from alignflow.targets.rewards import Quadratic
from alignflow.values import (
    EndpointAscent,
    Gradient,
    GradientFree,
    RewardSoftmaxGradient,
    Running,
    Value,
    tilted_value,
)


def mixture() -> GaussianMixture:
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    means = torch.tensor([[-1.5, 0.0], [1.0, 0.5]], dtype=torch.float64)
    covariances = torch.tensor([0.2, 0.4], dtype=torch.float64)[:, None, None] * torch.eye(2)
    return GaussianMixture(weights, means, covariances, tolerance=1e-8)


def gaussian(dimension: int) -> GaussianMixture:
    return GaussianMixture(
        torch.ones(1, dtype=torch.float64),
        torch.zeros(1, dimension, dtype=torch.float64),
        torch.eye(dimension, dtype=torch.float64).unsqueeze(0),
    )


def at(state: torch.Tensor, time: float, **more) -> TensorDict:
    time = torch.full((len(state),), time, dtype=state.dtype)
    return TensorDict({"state": state, "time": time, **more}, batch_size=[len(state)])


def looked_ahead(model, state: torch.Tensor, time: float = 0.4) -> TensorDict:
    """A batch with its endpoint, ready for a gradient."""
    return FlowMapPosterior(model)(at(state.detach().requires_grad_(), time))


def of_strength(strength: float) -> af.Tilt:
    return af.Tilt(lambda x: x.sum(-1), strength)


def normal(generator, *shape) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_the_value_from_exact_draws_is_the_closed_form(generator, strength):
    model, draws = mixture(), 40_000
    state = normal(generator, 3, 2)
    reward = Quadratic(torch.tensor([0.2, -0.4], dtype=torch.float64), precision=1.5)
    endpoint = model.posterior_sample(state, 0.5, draws, generator)
    tensordict = Value(model, af.Tilt(reward, strength))(at(state, 0.5, endpoint=endpoint))
    ratio = (strength * tensordict["endpoint_reward"] - tensordict["value"][:, None]).exp()
    # the log of a mean of K draws has the standard error of the mean, relative to it
    error = 5 * ratio.std(1) / math.sqrt(draws)
    exact = model.value(state, 0.5, reward, strength)
    assert ((tensordict["value"] - exact).abs() < error).all()


def test_weighted_draws_of_another_distribution_give_the_same_value(generator):
    model, draws = mixture(), 40_000
    state = normal(generator, 1, 2)
    reward = Quadratic(torch.zeros(2, dtype=torch.float64))
    wide = 2 * normal(generator, 1, draws, 2)
    log_weight = model.posterior_log_density(wide, state, 0.5) + wide.square().sum(-1) / 8
    batch = at(state, 0.5, endpoint=wide, endpoint_log_weight=log_weight)
    batch = Value(model, af.Tilt(reward, 1.0))(batch)
    # five relative standard errors of each of the two means of weights
    ess = [effective_sample_size(w) for w in (log_weight, log_weight + batch["endpoint_reward"])]
    error = 5 * sum(1 / size for size in ess).sqrt()
    assert error < 0.2
    assert (batch["value"] - model.value(state, 0.5, reward, 1.0)).abs() < error


def test_a_shift_of_the_reward_shifts_the_value_and_one_of_the_log_weights_does_not(generator):
    reward, log_weight = normal(generator, 5, 7), normal(generator, 5, 7)
    value = tilted_value(reward, of_strength(2.0), log_weight)
    torch.testing.assert_close(tilted_value(reward + 3, of_strength(2.0), log_weight), value + 6)
    torch.testing.assert_close(tilted_value(reward, of_strength(2.0), log_weight + 3), value)
    torch.testing.assert_close(
        tilted_value(reward, of_strength(2.0), torch.ones(5, 7)),
        tilted_value(reward, of_strength(2)),
    )


def test_the_value_survives_large_rewards_and_dropped_draws():
    reward = torch.tensor([[1e4, -torch.inf], [0.0, -torch.inf]], dtype=torch.float64)
    expected = torch.tensor([1e5, 0.0], dtype=torch.float64) - math.log(2)
    torch.testing.assert_close(tilted_value(reward, of_strength(10.0)), expected)
    # no strength at all does not turn -inf into NaN
    half = torch.full((2,), 0.5, dtype=torch.float64)
    torch.testing.assert_close(tilted_value(reward, of_strength(0.0)), half.log())


@pytest.mark.parametrize(("rows", "dimension"), [(1, 1), (7, 3)], ids=str)
def test_the_point_gradient_of_a_quadratic_reward_is_the_gaussian_one(generator, rows, dimension):
    state, center = normal(generator, rows, dimension), normal(generator, dimension)
    model, reward = gaussian(dimension), Quadratic(center, precision=1.5)
    tensordict = Gradient(model, af.Tilt(reward, 2.0))(looked_ahead(model, state, time=0.4))
    std = math.sqrt(0.4**2 + 0.6**2)
    expected = -2.0 * 1.5 * (state / std - center) / std
    torch.testing.assert_close(tensordict["value_gradient"], expected)
    torch.testing.assert_close(tensordict["value"], 2.0 * tensordict["endpoint_reward"][:, 0])


def test_the_point_gradient_is_the_derivative_of_the_decoded_reward(generator):
    """Through decoding, a nonlinear reward and a nonlinear map, by central differences."""

    class Decoding(GaussianMixture):
        def decode(self, x):
            return x.sin() + x[:, :1]

    base = mixture()
    model = Decoding(base.weights, base.means, base.covariances, tolerance=1e-11)
    reward = af.reward(lambda endpoint: endpoint.square().sum(-1).tanh(), differentiable=True)
    state, h = normal(generator, 5, 2), 1e-5
    gradient = Gradient(model, af.Tilt(reward, 3.0))(looked_ahead(model, state))["value_gradient"]
    for axis in torch.eye(2, dtype=torch.float64):
        ends = [reward.score(model.flow_map(state + d * axis, 0.4, 1.0), None, model.decode)
                for d in (h, -h)]  # fmt: skip
        derivative = 3.0 * (ends[0] - ends[1]) / (2 * h)
        torch.testing.assert_close(gradient @ axis, derivative, rtol=1e-5, atol=1e-6)


def test_the_point_gradient_of_states_of_tokens_needs_no_special_case(generator):
    model = af.from_flow_map(lambda x, s, t: 2 * x, event_shape=(4, 6))
    reward = af.reward(lambda endpoint: endpoint[:, 0, 0], differentiable=True)
    tensordict = Gradient(model, af.Tilt(reward, 1.0))(
        looked_ahead(model, normal(generator, 3, 4, 6))
    )
    expected = torch.zeros(3, 4, 6, dtype=torch.float64)
    expected[:, 0, 0] = 2.0
    torch.testing.assert_close(tensordict["value_gradient"], expected)


def test_terms_of_a_composite_are_written_by_name(generator):
    model = gaussian(2)
    reward = af.Sum({"a": (Quadratic(torch.zeros(2)), 1.0), "b": (lambda x: x[:, 0], 2.0)})
    endpoint = normal(generator, 3, 5, 2)
    tensordict = Value(model, af.Tilt(reward, 1.0))(
        at(normal(generator, 3, 2), 0.5, endpoint=endpoint)
    )
    torch.testing.assert_close(tensordict["endpoint_reward_b"], endpoint[..., 0])
    total = tensordict["endpoint_reward_a"] + 2 * tensordict["endpoint_reward_b"]
    torch.testing.assert_close(tensordict["endpoint_reward"], total)


def test_each_draw_is_scored_under_the_condition_of_its_row(generator):
    model = gaussian(2)
    batch = at(normal(generator, 3, 2), 0.5, endpoint=normal(generator, 3, 4, 2))
    batch["condition"] = torch.tensor([5.0, 6.0, 7.0])
    reward = af.reward(lambda endpoint, condition: condition)
    rewards = Value(model, af.Tilt(reward, 1.0))(batch)["endpoint_reward"]
    expected = batch["condition"].to(rewards)[:, None].expand(3, 4)
    torch.testing.assert_close(rewards, expected)


def test_a_black_box_has_no_point_gradient():
    with pytest.raises(ValueError, match="'count' is a black box"):
        Gradient(gaussian(1), af.Tilt(af.reward(lambda x: x, name="count"), 1.0))


def test_a_state_without_a_graph_is_refused(generator):
    model = gaussian(2)
    batch = FlowMapPosterior(model)(at(normal(generator, 3, 2), 0.4))
    with pytest.raises(ValueError, match="requires grad before the posterior"):
        Gradient(model, af.Tilt(Quadratic(torch.zeros(2)), 1.0))(batch)


@pytest.mark.parametrize("cut", [lambda x: x.detach()[:, 0], lambda x: torch.zeros(len(x))])
def test_a_reward_that_breaks_the_graph_is_named(generator, cut):
    reward = af.reward(cut, name="cut", differentiable=True)
    node = Gradient(gaussian(2), af.Tilt(reward, 1.0))
    with pytest.raises(af.RewardError, match="'cut' says differentiable"):
        node(looked_ahead(gaussian(2), normal(generator, 3, 2)))


def test_a_gradient_that_is_not_finite_raises_or_counts_as_zero(generator):
    state = normal(generator, 3, 2)
    state[1] = 0.0

    def node(on_invalid):
        root = af.reward(lambda x: x.square().sum(-1).sqrt(), differentiable=True,
                         name="root", on_invalid=on_invalid)  # fmt: skip
        return Gradient(gaussian(2), af.Tilt(root, 1.0))

    with pytest.raises(af.RewardError, match="gradient of reward 'root'.*samples 1 of 3"):
        node("raise")(looked_ahead(gaussian(2), state))
    gradient = node("drop")(looked_ahead(gaussian(2), state))["value_gradient"]
    assert torch.equal(gradient[1], torch.zeros(2, dtype=torch.float64))
    assert gradient[[0, 2]].norm(dim=1).min() > 0.5


def two_gaussians() -> GaussianMixture:
    """The 1-D model on which published estimators were compared."""
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    means = torch.tensor([[-1.5], [1.0]], dtype=torch.float64)
    covariances = torch.tensor([[[0.2]], [[0.4]]], dtype=torch.float64)
    return GaussianMixture(weights, means, covariances, tolerance=1e-6)


def bowl() -> Quadratic:
    """r(z) = -2 (z - 0.2)^2."""
    return Quadratic(torch.tensor([0.2], dtype=torch.float64), precision=4.0)


def drawn(posterior, state: torch.Tensor, time: float, generator) -> TensorDict:
    batch = at(state.detach().requires_grad_(), time)
    posterior.draw(batch, generator)
    return posterior(batch)


def test_the_gradient_of_renoised_draws_is_the_value_s_with_and_without_a_density(generator):
    """Exactly -0.6171 at x = 0.4, t = 0.5; 10,000 draws, five standard errors of 0.04."""
    model, state = two_gaussians(), torch.tensor([[0.4]], dtype=torch.float64)
    exact = model.value_gradient(state, 0.5, bowl(), 1.0)
    assert exact.item() == pytest.approx(-0.6171, abs=1e-4)
    for log_density in (model.log_density, None):
        batch = drawn(RenoisedPosterior(model, 10_000, 5.0, log_density), state, 0.5, generator)
        found = Gradient(model, af.Tilt(bowl(), 1.0))(batch)["value_gradient"]
        assert abs(found.item() - exact.item()) < 0.2


def test_weights_by_the_reward_alone_are_not_consistent(generator):
    model, state = two_gaussians(), torch.tensor([[0.4]], dtype=torch.float64)
    batch = drawn(RenoisedPosterior(model, 10_000, 5.0), state, 0.5, generator)
    found = RewardSoftmaxGradient(model, af.Tilt(bowl(), 1.0))(batch)["value_gradient"].item()
    exact = model.value_gradient(state, 0.5, bowl(), 1.0).item()
    assert abs(found - exact) > 0.15  # published: -0.28 where -0.617 is true


@pytest.mark.parametrize("time", [0.0, 0.3, 0.8])
def test_the_gradient_of_smooth_draws_is_the_value_s(generator, time):
    """400 draws of the exact stochastic map, 3 states; the error falls as 1 / sqrt(400)."""
    model, state = mixture(), normal(generator, 3, 2)
    reward = Quadratic(torch.tensor([0.2, -0.4], dtype=torch.float64), precision=1.5)
    batch = drawn(StochasticMapPosterior(model, 400), state, time, generator)
    found = Gradient(model, af.Tilt(reward, 1.0))(batch)["value_gradient"]
    exact = model.value_gradient(state, time, reward, 1.0)
    assert (found - exact).abs().max() < 5 * 2.0 / math.sqrt(400)
    if time == 0.0:  # draws are then no function of the state at all
        torch.testing.assert_close(found, torch.zeros_like(found))


@pytest.mark.parametrize("strength", [0.5, 2.0])
@pytest.mark.parametrize("time", [0.0, 0.3, 0.9])
def test_the_gradient_free_correction_leads_to_the_tilted_velocity(generator, time, strength):
    """20,000 exact draws, 4 states: five standard errors of a weighted mean of std (1-t)."""
    model, state, draws = mixture(), normal(generator, 4, 2), 20_000
    reward = Quadratic(torch.tensor([0.2, -0.4], dtype=torch.float64), precision=1.5)
    batch = drawn(ExactPosterior(model, model, draws), state, time, generator)
    found = GradientFree(model, af.Tilt(reward, strength))(batch)
    exact = model.tilted_velocity(state, time, reward, strength) - model.velocity(state, time)
    ess = effective_sample_size(strength * found["endpoint_reward"])
    std = batch["endpoint"].std(1) / (1 - time)
    allowed = 5 * std * (1 / ess + 1 / draws).sqrt()[:, None]
    assert ((found["correction"] - exact).abs() < allowed).all()


POSTERIORS = {
    "unweighted": lambda model: GLASSPosterior(model, 5, inner_steps=3),
    "weighted": lambda model: RenoisedPosterior(model, 5, 4.0, model.log_density),
}


@pytest.mark.parametrize("estimator", [Value, Gradient, GradientFree, RewardSoftmaxGradient])
@pytest.mark.parametrize("name", POSTERIORS)
@pytest.mark.parametrize("sizes", [(2, 3), (1, 1, 1, 1, 1), (4, 1)], ids=str)
def test_draws_may_come_in_parts(generator, name, estimator, sizes):
    # one component: its map is a closed form, not a solver's that looks at the whole batch
    model, state = gaussian(2), normal(generator, 3, 2)
    posterior = POSTERIORS[name](model)
    node = estimator(model, af.Tilt(Quadratic(torch.zeros(2, dtype=torch.float64), 3.0), 2.0))
    batch = at(state.requires_grad_(), 0.4)
    posterior.draw(batch, generator)
    whole = node(posterior(batch.copy())).detach()
    running, start = Running(), 0
    for size in sizes:
        part = batch.copy()
        part["endpoint_noise"] = batch["endpoint_noise"][:, start : start + size]
        node.take(running, posterior(part), alone=False)
        start += size
    parts = node.finish(running, batch.copy())
    for key in node.writes:
        torch.testing.assert_close(parts[key].detach(), whole[key], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("estimator", [Gradient, GradientFree])
def test_a_dropped_draw_counts_for_nothing(generator, estimator):
    model, state = gaussian(2), normal(generator, 3, 2)

    def function(x):
        return torch.where(x[:, 0] > 0, x.sum(1), torch.nan)

    reward = af.reward(function, differentiable=True, on_invalid="drop")
    batch = drawn(GLASSPosterior(model, 64, inner_steps=3), state, 0.1, generator)
    found = estimator(model, af.Tilt(reward, 1.0))(batch)
    assert all(torch.isfinite(found[key]).all() for key in estimator.writes[1:])
    assert found["endpoint_reward"].isneginf().any()


def test_ascent_on_the_endpoint_moves_the_state_by_its_definition(generator):
    model, state, eta = gaussian(2), normal(generator, 3, 2), 0.3
    batch = at(state, 0.2)
    for key, value in {"target_time": 0.5, "step_length": 0.3}.items():
        batch[key] = torch.full((3,), value, dtype=torch.float64)
    batch = FlowMapPosterior(model)(batch)
    z = batch["endpoint"][:, 0]
    found = EndpointAscent(model, af.Tilt(Quadratic(torch.zeros(2)), 2.0), eta, inner_steps=3)(
        batch
    )
    moved = z * (1 - 2 * eta) ** 3  # grad of 2 r is -2 z
    torch.testing.assert_close(0.3 * found["correction"], 0.8 * 0.5 * (moved - z))
    torch.testing.assert_close(found["value"], -z.square().sum(1))
