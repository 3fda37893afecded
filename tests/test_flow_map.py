"""What every flow map does, whatever gives its velocity and its jumps."""

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from alignflow.flow_map import FlowMap, Guided, check_flow_map
from alignflow.policies import FlowMapPolicy
from alignflow.targets import GaussianMixture
from alignflow.trainable import TrainablePolicy, check_trainable


class Shift(FlowMap):
    """b = drift + condition: a flow whose map is known."""

    def __init__(self, drift=1.0):
        super().__init__((2,))
        self.drift = drift

    def velocity(self, x, t, condition=None):
        return torch.full_like(x, self.drift) + (0 if condition is None else condition)

    def flow_map(self, x, s, t, condition=None):
        length = torch.as_tensor(t - s).reshape(-1, 1)
        return x + length * self.velocity(x, s, condition)


def test_the_tensordict_form_moves_the_state_to_the_target_time():
    td = TensorDict(
        {"state": torch.zeros(3, 2), "time": torch.zeros(3), "target_time": torch.full((3,), 0.25)},
        batch_size=3,
    )
    out = Shift()(td)
    assert torch.equal(out["state"], torch.full((3, 2), 0.25))
    assert torch.equal(out["time"], torch.full((3,), 0.25))
    td = td.set("condition", torch.full((3, 1), 3.0)).set("time", torch.zeros(3))
    td["state"] = torch.zeros(3, 2)
    assert torch.equal(Shift()(td)["state"], torch.ones(3, 2))


def test_samples_are_the_noise_moved_along_any_grid(generator):
    noise = Shift().noise(5, torch.Generator().manual_seed(0))
    grid = torch.tensor([0.0, 0.1, 0.7, 1.0])
    torch.testing.assert_close(Shift().sample(5, steps=3, generator=generator), noise + 1)
    again = Shift().sample(5, grid=grid, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again, noise + 1)


def test_the_denoiser_follows_from_the_velocity():
    x = torch.zeros(2, 2)
    torch.testing.assert_close(Shift().denoiser(x, 0.25), torch.full((2, 2), 0.75))


def test_guidance_moves_from_the_unconditional_field_past_the_conditional_one(generator):
    x, condition = torch.zeros(2, 2), torch.ones(2, 1)
    torch.testing.assert_close(Guided(Shift(), 1.0).velocity(x, 0.0, condition), x + 2)
    torch.testing.assert_close(Guided(Shift(), 3.0).velocity(x, 0.0, condition), x + 4)
    torch.testing.assert_close(Guided(Shift(), 0.0).flow_map(x, 0.0, 0.5, condition), x + 0.5)
    with pytest.raises(ValueError, match="needs a condition"):
        Shift().sample(2, guidance=2.0, generator=generator)


class Labelled(FlowMap):
    """A wide normal distribution without a condition, and a narrow one with any."""

    def __init__(self):
        super().__init__((2,))
        self.distributions = [
            GaussianMixture(torch.ones(1), mean[None], scale * torch.eye(2)[None]).double()
            for mean, scale in ((torch.zeros(2), 2.0), (torch.tensor([1.0, -2.0]), 0.3))
        ]

    def velocity(self, x, t, condition=None):
        return self.distributions[condition is not None].velocity(x, t)

    @property
    def has_posterior_flow(self):
        return True

    def posterior_flow(self, noise, x, t, condition=None):
        return self.distributions[condition is not None].posterior_flow(noise, x, t)


@pytest.mark.parametrize("time", [0.0, 0.6])
def test_the_mean_of_guided_posterior_draws_is_the_guided_denoiser(time, generator):
    """40,000 draws, five standard errors; at guidance 1 they are the conditional ones."""
    model, x = Labelled(), torch.tensor([[0.4, -0.7]], dtype=torch.float64)
    noise = torch.randn(1, 40_000, 2, generator=generator, dtype=torch.float64)
    guided = Guided(model, 2.5)
    assert guided.has_posterior_flow and not Guided(Shift(), 2.5).has_posterior_flow
    draws = guided.posterior_flow(noise, x, time, condition=1)
    error = draws.std(1) / 200
    assert ((draws.mean(1) - guided.denoiser(x, time, condition=1)).abs() < 5 * error).all()
    plain = Guided(model, 1.0).posterior_flow(noise, x, time, condition=1)
    torch.testing.assert_close(plain, model.posterior_flow(noise, x, time, condition=1))
    with pytest.raises(ValueError, match="needs a condition"):
        guided.posterior_flow(noise, x, time)


def test_numbers_and_states_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="n must be a whole number of at least 1, got 0"):
        Shift().sample(0)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got 0"):
        Shift().sample(1, steps=0)
    with pytest.raises(ValueError, match=r"\(N, 2\), got \(4, 3\)"):
        Shift().check_state(torch.zeros(4, 3))


class Scaled(FlowMap):
    """X_{s,t}(x) = x + (t - s) w, with a parameter w, and what it was conditioned on."""

    def __init__(self):
        super().__init__((2,))
        self.w = torch.nn.Parameter(torch.tensor(1.0))

    def flow_map(self, x, s, t, condition=None):
        self.condition = condition
        return x + (t - s) * self.w


def test_samples_carry_no_graph_unless_they_are_asked_to(generator):
    model = Scaled()
    assert not model.sample(3, generator=generator).requires_grad
    drawn = model.sample(3, generator=generator, differentiable=True)
    (gradient,) = torch.autograd.grad(drawn.sum(), model.w)
    assert gradient.item() == pytest.approx(6)


CONDITIONS = {
    "a number": (1, torch.tensor([1, 1, 1])),
    "a list": ([0, 1, 2], torch.tensor([0, 1, 2])),
    "an array": (np.array([0, 1, 2]), torch.tensor([0, 1, 2])),
    "one row": (torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]] * 3)),
}


@pytest.mark.parametrize(("condition", "seen"), CONDITIONS.values(), ids=CONDITIONS)
def test_one_condition_or_one_a_sample_reach_the_map_as_rows(condition, seen):
    model = Scaled()
    model.sample(3, condition=condition)
    assert torch.equal(model.condition, seen)


def test_texts_and_mappings_reach_the_map_as_rows():
    model = Scaled()
    model.sample(3, condition="a cat")
    assert model.condition == ["a cat"] * 3
    model.sample(2, condition={"prompt": ["a", "b"], "size": 3})
    assert model.condition["prompt"] == ["a", "b"] and model.condition["size"].tolist() == [3, 3]
    rows = TensorDict({"label": torch.tensor([1, 2])}, [2])
    model.sample(2, condition=rows)
    assert model.condition["label"].tolist() == [1, 2]


def test_a_whole_number_is_a_source_of_noise(generator):
    assert torch.equal(Shift().sample(4, generator=0), Shift().sample(4, generator=generator))
    assert torch.equal(
        Shift().sample(4.0, steps=2.0, generator=0), Shift().sample(4, 2, generator=0)
    )


REFUSED = {
    "another number of conditions": (
        {"condition": [1, 2]},
        "3 samples need one condition or 3, got 2",
    ),
    "half a sample": ({"n": 2.5}, "n must be a whole number of at least 1, got 2.5"),
    "no number of steps": ({"steps": float("nan")}, "steps must be a whole number .*, got nan"),
    "a grid that ends early": (
        {"grid": [0, 0.25, 0.5]},
        r"a grid runs from 0 \(noise\) to 1 \(data\), got one from 0 to 0.5",
    ),
    "a grid that starts late": ({"grid": torch.tensor([0.5, 1.0])}, "got one from 0.5 to 1"),
    "a text as a grid": (
        {"grid": "uniform"},
        "a grid must be a tensor, or an array or list of numbers, got 'uniform'",
    ),
    "no guidance": ({"guidance": float("inf")}, "guidance must be a finite number, got inf"),
    "a seed by name": ({"seed": 3}, r"sample takes no seed: say generator=3"),
    "no generator": ({"generator": "cuda"}, "generator must be a torch.Generator or a seed"),
    "no flag": ({"differentiable": 1}, "differentiable must be true or false, got 1"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_a_call_to_sample_that_makes_no_sense_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        Shift().sample(**({"n": 3} | options))


@pytest.mark.parametrize("shape", [2, "22", (2, 0), (2.5,), None], ids=repr)
def test_what_is_no_event_shape_is_refused(shape):
    with pytest.raises(ValueError, match="event_shape"):
        FlowMap(shape)


NOT_A_MODEL = {
    "a name": ("avatars", r"af\.load\('avatars'\)"),
    "a network": (torch.nn.Linear(2, 2), r"af\.FlowMapPolicy\(network, event_shape=\.\.\.\)"),
    "a function": (torch.sin, r"af\.from_flow_map\(function, event_shape=\.\.\.\)"),
    "a number": (3, "policy must be a flow map, got 3$"),
}


@pytest.mark.parametrize(("value", "message"), NOT_A_MODEL.values(), ids=NOT_A_MODEL)
def test_what_is_no_flow_map_is_refused_with_the_way_to_one(value, message):
    with pytest.raises(ValueError, match=message):
        check_flow_map("policy", value)


def test_the_standard_deviation_of_the_data_is_the_models(generator):
    model = Shift()
    assert model.data_std == 1.0
    model.data_std = 0.4
    assert Guided(model, 2.0).data_std == 0.4


def test_a_flow_map_without_a_network_is_not_trained():
    with pytest.raises(ValueError, match=r"tune needs a policy with a network, .*; Shift has none"):
        check_trainable(Shift(), "tune")
    assert issubclass(FlowMapPolicy, TrainablePolicy)
