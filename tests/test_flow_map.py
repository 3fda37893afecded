"""What every flow map does, whatever gives its velocity and its jumps."""

import pytest
import torch
from tensordict import TensorDict

from alignflow.flow_map import FlowMap, Guided
from alignflow.targets import GaussianMixture


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
    """A wide normal law without a condition, and a narrow one with any."""

    def __init__(self):
        super().__init__((2,))
        self.laws = [
            GaussianMixture(torch.ones(1), mean[None], scale * torch.eye(2)[None]).double()
            for mean, scale in ((torch.zeros(2), 2.0), (torch.tensor([1.0, -2.0]), 0.3))
        ]

    def velocity(self, x, t, condition=None):
        return self.laws[condition is not None].velocity(x, t)

    @property
    def has_posterior_flow(self):
        return True

    def posterior_flow(self, noise, x, t, condition=None):
        return self.laws[condition is not None].posterior_flow(noise, x, t)


@pytest.mark.parametrize("time", [0.0, 0.6])
def test_the_mean_of_guided_posterior_draws_is_the_guided_denoiser(time, generator):
    """40,000 draws, five standard errors; at guidance 1 they are the conditional law's own."""
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
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        Shift().sample(0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        Shift().sample(1, steps=0)
    with pytest.raises(ValueError, match=r"\(N, 2\), got \(4, 3\)"):
        Shift().check_state(torch.zeros(4, 3))
