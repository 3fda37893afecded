"""Transitions: one step by hand, and the order of convergence over all steps."""

import math

import pytest
import torch
from tensordict import TensorDict

from alignflow.posteriors import FlowMapPosterior, StochasticMapPosterior, Velocity
from alignflow.targets.gaussian_mixture import GaussianMixture
from alignflow.transitions import (
    SDE,
    Anchored,
    Bridge,
    Euler,
    FlowMapTransition,
    GLASSTransition,
    Heun,
    Renoise,
    Straight,
)


def mixture(tolerance: float = 1e-10) -> GaussianMixture:
    return GaussianMixture(
        torch.tensor([0.4, 0.6], dtype=torch.float64),
        torch.tensor([[-1.0, 0.0], [2.0, 1.0]], dtype=torch.float64),
        torch.eye(2, dtype=torch.float64).expand(2, 2, 2) * 0.3,
        tolerance=tolerance,
    )


def batch(state: torch.Tensor, time: float, target_time: float, **more) -> TensorDict:
    times = {"time": time, "target_time": target_time, "step_length": target_time - time}
    times = {key: torch.full((len(state),), t, dtype=state.dtype) for key, t in times.items()}
    return TensorDict({"state": state, **times, **more}, batch_size=[len(state)])


def normal(generator, *shape) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_the_flow_map_transition_jumps_and_adds_the_correction_over_the_step(generator):
    model, state, correction = mixture(), normal(generator, 5, 2), normal(generator, 5, 2)
    plain = FlowMapTransition(model)(batch(state, 0.2, 0.5))
    moved = FlowMapTransition(model)(batch(state, 0.2, 0.5, correction=correction))
    torch.testing.assert_close(plain["state"], model.flow_map(state, 0.2, 0.5))
    torch.testing.assert_close(moved["state"], plain["state"] + 0.3 * correction)
    assert torch.equal(moved["time"], moved["target_time"])


def test_euler_moves_along_the_velocity_and_the_correction(generator):
    state, velocity, correction = (normal(generator, 5, 2, 3) for _ in range(3))
    moved = Euler()(batch(state, 0.2, 0.5, velocity=velocity, correction=correction))
    torch.testing.assert_close(moved["state"], state + 0.3 * (velocity + correction))
    torch.testing.assert_close(moved["tilted_velocity"], velocity + correction)


def integrate(transition, model, state: torch.Tensor, steps: int) -> torch.Tensor:
    """From 0 to 1 by the nodes alone, Heun's last step as the steerer takes it."""
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64).tolist()
    for s, t in zip(times[:-1], times[1:], strict=True):
        moved = transition(Velocity(model)(batch(state, s, t)))
        if transition.corrector is not None and t < 1:
            moved = transition.corrector(Velocity(model)(moved))
        state = moved["state"]
    return state


@pytest.mark.parametrize(("transition", "order"), [(Euler(), 1), (Heun(), 2)], ids=repr)
def test_the_error_falls_with_the_order_of_the_step(generator, transition, order):
    model, state = mixture(), normal(generator, 16, 2)
    exact = model.flow_map(state, 0.0, 1.0)
    errors = [(integrate(transition, model, state, n) - exact).abs().max() for n in (64, 128)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_heun_with_a_velocity_linear_in_time_is_exact():
    """x' = 2 t has the mean of both ends as its exact average over a step."""
    state = torch.zeros(1, 1, dtype=torch.float64)
    at_start = {"velocity": torch.full((1, 1), 0.4, dtype=torch.float64)}
    heun = Heun()
    moved = heun(batch(state, 0.2, 0.6, **at_start))
    moved["velocity"] = torch.full((1, 1), 1.2, dtype=torch.float64)
    moved = heun.corrector(moved)
    torch.testing.assert_close(moved["state"], state + 0.6**2 - 0.2**2)


def test_a_transition_that_lacks_the_velocity_says_who_makes_it(generator):
    with pytest.raises(ValueError, match=r"Euler\(\) lacks the key 'velocity'.*Velocity or Den"):
        Euler()(batch(normal(generator, 5, 2), 0.2, 0.5))


def on_path(model, n: int, time: float, generator) -> torch.Tensor:
    """n states of rho_t, from data and noise."""
    return time * model.sample(n, generator=generator) + (1 - time) * normal(generator, n, 2)


def moments_agree(found: torch.Tensor, exact: torch.Tensor) -> None:
    """Means, variances and third moments of two samples of n, within five standard errors."""
    n = len(found)
    for power in (1, 2, 3):
        x, y = found**power, exact**power
        error = ((x.var(0) + y.var(0)) / n).sqrt()
        assert ((x.mean(0) - y.mean(0)).abs() < 5 * error).all(), power


def stepped(transition, model, state, time, target, generator, **more) -> TensorDict:
    moved = batch(state, time, target, **more)
    transition.draw(moved, generator)
    return transition(Velocity(model)(moved))


@pytest.mark.parametrize(("time", "target"), [(0.0, 0.4), (0.3, 0.6), (0.6, 1.0)])
@pytest.mark.parametrize("anchor", [0.3, 1.0])
def test_an_anchored_step_keeps_the_marginal_at_any_length(generator, time, target, anchor):
    """4,000 states."""
    model, n = mixture(tolerance=1e-5), 4_000
    transition = Anchored(model, anchor)
    moved = stepped(transition, model, on_path(model, n, time, generator), time, target, generator)
    moments_agree(moved["state"], on_path(model, n, target, generator))


@pytest.mark.parametrize(("time", "target"), [(0.0, 0.4), (0.3, 0.6), (0.6, 1.0)])
def test_a_bridge_to_a_posterior_draw_keeps_the_marginal(generator, time, target):
    """4,000 states."""
    model, n = mixture(tolerance=1e-5), 4_000
    transition = Bridge(StochasticMapPosterior(model))
    state = on_path(model, n, time, generator)
    moved = stepped(transition, model, state, time, target, generator)["state"]
    moments_agree(moved, on_path(model, n, target, generator))


@pytest.mark.parametrize(("time", "target"), [(0.0, 0.4), (0.3, 0.6), (0.5, 1.0)])
def test_the_transition_of_glass_is_the_kernel_of_the_memoryless_path(generator, time, target):
    """From one state: 4,000 draws by 100 inner steps against draws of x_1 and the bridge to it."""
    model, n = mixture(tolerance=1e-5), 4_000
    state = torch.tensor([[0.3, 0.4]], dtype=torch.float64).expand(n, 2).contiguous()
    direct = stepped(GLASSTransition(model, 100), model, state, time, target, generator)["state"]
    bridge = Bridge(StochasticMapPosterior(model))
    moments_agree(direct, stepped(bridge, model, state, time, target, generator)["state"])


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, lambda t: 0.6 * (1 - t)])
def test_the_sde_ends_in_the_data_whatever_its_noise(generator, noise):
    """8,000 samples by 200 steps, whose error is below their five standard errors."""
    model, transition = mixture(), SDE(noise)
    state = normal(generator, 8_000, 2)
    times = torch.linspace(0, 1, 201, dtype=torch.float64).tolist()
    for s, t in zip(times[:-1], times[1:], strict=True):
        state = stepped(transition, model, state, s, t, generator)["state"]
    moments_agree(state, model.sample(8_000, generator=generator))


@pytest.mark.parametrize("data_std", [0.5, 1.0, 3.0])
def test_with_the_standard_deviation_of_normal_data_each_marginal_holds_at_any_step(
    data_std, generator
):
    """In three steps from noise; the mean square of 40,000, five standard errors."""
    n, times = 40_000, torch.tensor([0.0, 0.3, 0.8, 1.0]).double()
    target = normal_of(data_std)
    x = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    for start, end in zip(times[:2], times[1:3], strict=True):
        rows = {"state": x, "time": start.expand(n), "target_time": end.expand(n)}
        rows |= {"velocity": target.velocity(x, start.item())}
        noise = torch.randn(n, 1, generator=generator, dtype=torch.float64)
        step = SDE(data_std=data_std)
        x = step(TensorDict({**rows, "step_noise": noise}, batch_size=n))["state"]
        white = x.square() / ((end * data_std) ** 2 + (1 - end) ** 2)
        assert white.mean().item() == pytest.approx(1, abs=5 * (2 / n) ** 0.5)


def normal_of(data_std):
    covariance = torch.full((1, 1, 1), data_std**2)
    return GaussianMixture(torch.ones(1), torch.zeros(1, 1), covariance).double()


def test_without_noise_the_sde_is_euler_s_step(generator):
    model, state, correction = mixture(), normal(generator, 5, 2), normal(generator, 5, 2)
    moved = stepped(SDE(0.0), model, state, 0.2, 0.5, generator, correction=correction)
    expected = Euler()(Velocity(model)(batch(state, 0.2, 0.5, correction=correction)))
    torch.testing.assert_close(moved["state"], expected["state"])


def test_in_a_short_step_the_sde_is_the_one_of_its_formula(generator):
    """dx = [b + g^2/2 score + (1 + g^2 / (2 c_t)) correction] dt + g dW, g^2 = 2 eta^2 c_t."""
    model, h, t, eta = mixture(), 1e-6, 0.4, 0.7
    state, correction = normal(generator, 5, 2), normal(generator, 5, 2)
    moved = batch(state, t, t + h, correction=correction, step_noise=torch.zeros_like(state))
    drift = (SDE(eta)(Velocity(model)(moved))["state"] - state) / h
    c = (1 - t) / t
    expected = model.velocity(state, t) + eta**2 * c * model.score(state, t)
    torch.testing.assert_close(drift, expected + (1 + eta**2) * correction, rtol=1e-4, atol=1e-4)
    noise = torch.ones_like(state)
    noisy = batch(state, t, t + h, correction=correction, step_noise=noise)
    diffusion = (SDE(eta)(Velocity(model)(noisy))["state"] - state - h * drift) / h**0.5
    torch.testing.assert_close(diffusion, eta * (2 * c) ** 0.5 * noise, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [lambda m: SDE(0.8), lambda m: Anchored(m, 0.4)])
def test_the_ratio_of_densities_is_that_of_two_normals(generator, make):
    model, state, correction = mixture(), normal(generator, 6, 2), normal(generator, 6, 2)
    transition = make(model)
    moved = stepped(transition, model, state, 0.2, 0.5, generator, correction=correction)

    def step_distribution(**more):
        still, up = (
            transition(Velocity(model)(batch(state, 0.2, 0.5, step_noise=noise, **more)))["state"]
            for noise in (torch.zeros_like(state), torch.ones_like(state))
        )
        return torch.distributions.Normal(still, up - still)

    base, proposal = step_distribution(), step_distribution(correction=correction)
    expected = (base.log_prob(moved["state"]) - proposal.log_prob(moved["state"])).sum(1)
    torch.testing.assert_close(moved["log_ratio"], expected)
    assert (moved["log_ratio"] != 0).all()
    plain = stepped(transition, model, state, 0.2, 0.5, generator)
    assert torch.equal(plain["log_ratio"], torch.zeros(6, dtype=torch.float64))


def memoryless(t: torch.Tensor) -> torch.Tensor:
    """g_t of the memoryless path, which diverges at time 0."""
    return (2 * (1 - t) / t).sqrt()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_memoryless_schedule_may_be_a_call(dtype):
    time = torch.tensor([0.0, 0.0, 0.01, 0.5, 0.9], dtype=dtype)
    target = torch.tensor([0.1, 1.0, 0.2, 0.6, 1.0], dtype=dtype)
    torch.testing.assert_close(SDE(memoryless).std(time, target), SDE().std(time, target))
    halved = SDE(lambda t: memoryless(t) / 2).std(time, target)
    torch.testing.assert_close(halved, SDE(0.5).std(time, target))


def test_a_bounded_schedule_has_no_noise_at_time_zero():
    time, target = torch.tensor([0.0, 0.2]), torch.tensor([0.2, 0.4])
    std = SDE(lambda t: torch.full_like(t, 3.0)).std(time, target)
    assert std[0] == 0 and std[1] > 0
    assert torch.equal(std, SDE(lambda t: 3.0).std(time, target))


@pytest.mark.parametrize("bad", [-1.0, torch.nan])
def test_a_schedule_that_gives_no_noise_is_refused_with_its_time(bad):
    schedule = SDE(lambda t: torch.where(t > 0.3, bad, 0.5))
    with pytest.raises(ValueError, match="g_t must not be negative or NaN, and is at t = 0.5"):
        schedule.std(torch.tensor([0.0, 0.5]), torch.tensor([0.5, 1.0]))


def test_a_corrected_move_without_noise_has_no_weight_and_an_uncorrected_one_all(generator):
    model, state = mixture(), normal(generator, 3, 2)
    correction = torch.tensor([[0.0, 0.0], [0.0, 1e-9], [1.0, 2.0]], dtype=torch.float64)
    for make, target in ((lambda: SDE(0.0), 0.5), (lambda: SDE(), 1.0)):
        moved = stepped(make(), model, state, 0.2, target, generator, correction=correction)
        assert moved["log_ratio"].tolist() == [0.0, -torch.inf, -torch.inf]


def test_renoising_forgets_all_but_the_endpoint(generator):
    endpoint = normal(generator, 5, 1, 2)
    moved = batch(normal(generator, 5, 2), 0.2, 0.5, endpoint=endpoint)
    Renoise().draw(moved, generator)
    noise = moved["step_noise"]
    torch.testing.assert_close(Renoise()(moved)["state"], (endpoint[:, 0] + noise) / 2)


def test_straight_steps_to_the_end_are_the_jump(generator):
    model, state = mixture(), normal(generator, 5, 2)
    moved = Straight()(FlowMapPosterior(model)(batch(state, 0.5, 1.0)))
    torch.testing.assert_close(moved["state"], model.flow_map(state, 0.5, 1.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SDE(-0.1), "noise must be a finite number of at least 0"),
        (lambda: SDE("loud"), "noise must be a number, 'memoryless' or a call"),
        (lambda: SDE(data_std=-1.0), "data_std must be a finite number of at least 0"),
        (lambda: Anchored(mixture(), 0.0), r"anchor must be a fraction in \(0, 1\]"),
        (lambda: SDE(torch.nan), "noise must be a finite number"),
        (lambda: GLASSTransition(mixture(), 0), "inner_steps must be a whole number of at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
