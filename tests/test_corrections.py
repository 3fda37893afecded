"""Corrections: from a value's gradient to a change of the velocity."""

import pytest
import torch
from tensordict import TensorDict

from alignflow.corrections import (
    Ascent,
    Clipped,
    Drift,
    Normalized,
    Ramped,
    TiltCorrection,
    tilt_coefficient,
)
from alignflow.targets.gaussian_mixture import GaussianMixture
from alignflow.targets.rewards import Quadratic


def batch(generator, event_shape=(3,), rows=5) -> TensorDict:
    gradient, velocity = torch.randn(2, rows, *event_shape, generator=generator).double()
    length = torch.linspace(0.1, 0.3, rows, dtype=torch.float64)
    return TensorDict(
        {"value_gradient": gradient, "velocity": velocity, "step_length": length},
        batch_size=[rows],
    )


def test_the_exact_value_gradient_times_the_tilts_coefficient_gives_the_tilted_velocity(generator):
    model = GaussianMixture(
        torch.tensor([0.4, 0.6], dtype=torch.float64),
        torch.tensor([[-1.0, 0.0], [2.0, 1.0]], dtype=torch.float64),
        torch.eye(2, dtype=torch.float64).expand(2, 2, 2) * 0.3,
    )
    reward, time = Quadratic(torch.tensor([0.5, 1.0], dtype=torch.float64)), 0.3
    state = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    tensordict = TensorDict(
        {
            "time": torch.full((6,), time, dtype=torch.float64),
            "value_gradient": model.value_gradient(state, time, reward, 2.0),
        },
        batch_size=[6],
    )
    steered = model.velocity(state, time) + TiltCorrection()(tensordict)["correction"]
    torch.testing.assert_close(steered, model.tilted(reward, 2.0).velocity(state, time))


def test_the_tilts_coefficient_is_refused_at_time_zero():
    with pytest.raises(ValueError, match="diverges at time 0.*t_min"):
        tilt_coefficient(torch.tensor([0.5, 0.0]))


def test_ascent_adds_the_step_size_times_the_gradient_over_any_step(generator):
    tensordict = Ascent(0.3)(batch(generator))
    moved = tensordict["step_length"][:, None] * tensordict["correction"]
    torch.testing.assert_close(moved, 0.3 * tensordict["value_gradient"])


@pytest.mark.parametrize("event_shape", [(3,), (2, 4), (1, 3, 3)], ids=str)
def test_a_normalized_correction_is_as_long_as_the_velocity_and_points_uphill(
    generator, event_shape
):
    tensordict = Normalized(0.5)(Drift(2.0)(batch(generator, event_shape)))
    flat = {key: tensordict[key].flatten(1) for key in ("correction", "value_gradient", "velocity")}
    length = flat["correction"].norm(dim=1)
    torch.testing.assert_close(length, 0.5 * flat["velocity"].norm(dim=1))
    cosine = torch.cosine_similarity(flat["correction"], flat["value_gradient"])
    torch.testing.assert_close(cosine, torch.ones(5, dtype=torch.float64))


def test_a_normalized_correction_forgets_the_strength_but_not_that_there_is_no_gradient(generator):
    first = batch(generator)
    strong = first.clone()
    strong["value_gradient"] = 100 * strong["value_gradient"]
    drift, node = Drift(1.0), Normalized()
    torch.testing.assert_close(node(drift(first))["correction"], node(drift(strong))["correction"])
    first["value_gradient"] = torch.zeros_like(first["value_gradient"])
    correction = node(drift(first))["correction"]
    assert torch.equal(correction, torch.zeros(5, 3, dtype=torch.float64))


def test_a_clipped_correction_is_never_longer_than_its_fraction_and_else_left_alone(generator):
    tensordict = batch(generator)
    tensordict["value_gradient"][:2] *= 1e-3
    free = Drift(1.0)(tensordict.clone())["correction"]
    clipped = Clipped(0.5)(Drift(1.0)(tensordict))["correction"]
    limit = 0.5 * tensordict["velocity"].norm(dim=1)
    assert (clipped.norm(dim=1) <= limit * (1 + 1e-12)).all()
    torch.testing.assert_close(clipped[:2], free[:2])
    torch.testing.assert_close(torch.cosine_similarity(clipped, free), torch.ones_like(limit))


def test_a_ramped_correction_is_the_tilt_s_of_a_value_that_grows_with_time(generator):
    tensordict = batch(generator)
    tensordict["time"] = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    ramped = Ramped(0.7)(tensordict.clone())["correction"]
    tensordict["value_gradient"] = tensordict["time"][:, None] * tensordict["value_gradient"]
    torch.testing.assert_close(ramped, 0.7 * TiltCorrection()(tensordict)["correction"])


@pytest.mark.parametrize("number", [-1.0, float("nan"), float("inf")])
def test_numbers_out_of_range_are_refused(number):
    with pytest.raises(ValueError, match="step_size must be a finite number of at least 0"):
        Ascent(number)
    with pytest.raises(ValueError, match="scale must be a finite number of at least 0"):
        Normalized(number)
