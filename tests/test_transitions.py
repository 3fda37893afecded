"""Transitions: one step by hand, and the order of convergence over all steps."""

import math

import pytest
import torch
from tensordict import TensorDict

from alignflow.posteriors import Velocity
from alignflow.targets.gaussian_mixture import GaussianMixture
from alignflow.transitions import Euler, FlowMapTransition, Heun


def mixture() -> GaussianMixture:
    return GaussianMixture(
        torch.tensor([0.4, 0.6], dtype=torch.float64),
        torch.tensor([[-1.0, 0.0], [2.0, 1.0]], dtype=torch.float64),
        torch.eye(2, dtype=torch.float64).expand(2, 2, 2) * 0.3,
        tolerance=1e-10,
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
    """x' = 2 t has the mean of both ends as its exact slope over a step."""
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
