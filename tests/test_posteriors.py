"""Posteriors: the endpoints they write, against the closed forms of a standard normal."""

import pytest
import torch
from tensordict import TensorDict

import alignflow as af
from alignflow.flow_map import Guided
from alignflow.interpolants import expand_time
from alignflow.posteriors import DenoiserPosterior, FlowMapPosterior, Velocity


def spread(t: torch.Tensor) -> torch.Tensor:
    """Standard deviation of x_t when noise and data are both standard normal."""
    return (t.square() + (1 - t).square()).sqrt()


def standard_normal(event_shape):
    """The exact flow map of standard normal data, of any event shape."""

    def function(x, s, t, condition=None):
        moved = x * expand_time(spread(t) / spread(s), x)
        return moved if condition is None else moved + condition

    return af.from_flow_map(function, event_shape)


def batch(generator, event_shape=(3,), rows=7, **more) -> TensorDict:
    state = torch.randn(rows, *event_shape, generator=generator, dtype=torch.float64)
    time = torch.linspace(0, 0.9, rows, dtype=torch.float64)
    return TensorDict({"state": state, "time": time, **more}, batch_size=[rows])


@pytest.mark.parametrize("event_shape", [(1,), (3,), (2, 5), (3, 4, 4)], ids=str)
def test_the_flow_map_posterior_of_a_normal_is_the_state_over_its_spread(generator, event_shape):
    tensordict = FlowMapPosterior(standard_normal(event_shape))(batch(generator, event_shape))
    state, time = tensordict["state"], tensordict["time"]
    assert tensordict["endpoint"].shape == (7, 1, *event_shape)
    torch.testing.assert_close(
        tensordict["endpoint"][:, 0], state / expand_time(spread(time), state)
    )


@pytest.mark.parametrize("event_shape", [(1,), (2, 5)], ids=str)
def test_the_denoiser_posterior_of_a_normal_is_its_regression_on_the_state(generator, event_shape):
    tensordict = DenoiserPosterior(standard_normal(event_shape))(batch(generator, event_shape))
    state, time = tensordict["state"], tensordict["time"]
    mean = expand_time(time / spread(time).square(), state) * state
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


def test_guidance_doubles_the_forwards_that_a_posterior_counts():
    model = standard_normal((3,))
    assert FlowMapPosterior(model).cost.nfe == 1
    assert FlowMapPosterior(Guided(model, 2.0)).cost.nfe == 2


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
