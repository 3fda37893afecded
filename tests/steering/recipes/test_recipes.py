"""Methods as values: the same as their names with options, and as what a user writes."""

import json
from dataclasses import dataclass

import pytest
import torch
from omegaconf import OmegaConf

import alignflow as af
from alignflow.cost import Cost
from alignflow.pipeline.method_keys import completed
from alignflow.posteriors import FlowMapPosterior
from alignflow.settings import option
from alignflow.steering import METHODS, Nodes, Recipe
from alignflow.targets import ring, ring_reward
from alignflow.transitions import FlowMapTransition
from alignflow.values import Value


def sampled(steerer) -> torch.Tensor:
    return steerer.sample(5, generator=3)["state"]


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("fmtt", af.steering.FMTT(particles=4, noise=0.3)),
        ("lookahead", af.steering.Lookahead(step_size=0.2)),
        ("glass", af.steering.GLASS(draws=4)),
        ("importance", af.steering.Importance(particles=3)),
    ],
)
def test_a_name_with_options_is_short_for_the_method_and_the_tilt(name, recipe):
    given = {key: getattr(recipe, key) for key in af.steer.options(name)}
    short = af.steer(ring(), ring_reward(), name, strength=2, steps=3, **given)
    whole = af.steer(ring(), af.Tilt(ring_reward(), 2), recipe, steps=3)
    assert torch.equal(sampled(short), sampled(whole)) and str(short) == str(whole)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_a_value_whose_options_are_its_fields(name):
    recipe = METHODS[name]
    assert recipe.name == name and recipe() == recipe() and recipe().__doc__
    assert af.steering.options(recipe) == af.steer.options(name)
    options = af.steer.options(name)
    assert recipe(**{key: value.default for key, value in options.items()}) == recipe()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward": af.Tilt(ring_reward()), "strength": 2.0}, "strength=2.0 beside a tilt of str"),
        ({"reward": af.Tilt(ring_reward()), "strength": 1.0}, "say it once, in the Tilt"),
        (
            {"method": af.steering.FMTT(), "particles": 4},
            r"particles beside a method that has its options.* FMTT\(particles=4\)",
        ),
        ({"method": af.steering.GLASS(), "inner_steps": 2}, r"as GLASS\(inner_steps=2\)"),
        ({"method": af.steering.FMTT}, "method must be one of"),
    ],
    ids=str,
)
def test_what_is_said_twice_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        af.steer(ring(), **{"reward": ring_reward()} | arguments)


def test_an_option_out_of_range_is_refused_where_the_method_is_made():
    with pytest.raises(ValueError, match="noise must be a finite number of at least 0, got -1"):
        af.steering.FMTT(noise=-1.0)


@dataclass(frozen=True, kw_only=True)
class Watching(Recipe):
    """The base model, with the value of its lookahead at hand."""

    t_min: float = option(0.25, "steps that start before are not looked at")

    def nodes(self, model, tilt):
        return Nodes(
            posterior=FlowMapPosterior(model),
            value=Value(model, tilt),
            transition=FlowMapTransition(model),
            t_min=self.t_min,
        )


def test_a_custom_method_is_given_as_a_value_and_by_a_name(monkeypatch):
    steerer = af.steer(ring(), ring_reward(), Watching(), steps=4)
    assert str(steerer).startswith("Watching: The base model, with the value of its lookahead")
    assert torch.equal(sampled(steerer), sampled(af.steer(ring(), ring_reward(), "best_of_n",
                                                         particles=1, steps=4)))  # fmt: skip
    monkeypatch.setitem(METHODS, "watching", Watching)
    assert "t_min" in af.steer.options("watching")  # pyright: ignore[reportArgumentType]


def test_the_standard_deviation_of_a_noisy_step_can_be_that_of_the_policy():
    policy = af.from_flow_map(lambda x, s, t: x, (2,))
    policy.data_std = 0.7
    transition = {"name": "sde", "data_std": "policy"}
    steerer = af.steer(policy, ring_reward(), "fk", transition=transition, steps=2)
    assert "data_std=0.7" in str(steerer)


def test_what_a_steerer_costs_is_known_without_a_call_of_the_model_or_the_reward():
    def never(*_):
        raise AssertionError("called")

    policy = af.from_flow_map(never, (2,))
    steerer = af.steer(policy, never, "fk", particles=3, posterior="flow_map", steps=4)
    # a lookahead and a velocity in each step
    assert steerer.cost == Cost(nfe=3 * 8, reward_calls=3 * 5)


def test_the_graph_is_data_with_nodes_costs_and_the_keys_between_them():
    steerer = af.steer(ring(), ring_reward(), "dps", steps=4)
    graph = json.loads(json.dumps(steerer.graph()))
    names = [node["name"] for node in graph["nodes"]]
    assert names[0] == "DenoiserPosterior()" and names[-1] == "Euler()"
    assert graph["nodes"][0]["cost"] == {
        "nfe": 1, "vjps": 0, "reward_calls": 0, "reward_vjps": 0
    }  # fmt: skip
    assert {"source": 0, "target": 1, "keys": ["endpoint"]} in graph["edges"]
    assert {"source": None, "target": 0, "keys": ["state", "time"]} in graph["edges"]
    assert graph["cost"]["nfe"] == 4 and graph["title"].startswith("dps: ")


def test_a_config_states_the_defaults_of_its_method_and_knows_its_keys():
    node = OmegaConf.create({"method": "fmtt", "noise": 0.3})
    whole = completed("steerer", node)
    assert (whole.noise, whole.particles) == (0.3, 8)
    # how many steps its particles take depends on the model
    assert whole.steps is None
    assert completed("steerer", OmegaConf.create({"method": "dps"})).steps == 8
    assert "particles" not in node and "strength" not in whole
    with pytest.raises(ValueError, match="'fmtt' does not take nois; .*did you mean 'noise'"):
        completed("steerer", OmegaConf.create({"method": "fmtt", "nois": 0.3}))
    with pytest.raises(ValueError, match="steerer: method must be one of .*did you mean 'fmtt'"):
        completed("steerer", OmegaConf.create({"method": "fmt"}))


def test_a_grid_in_a_config_has_its_steps():
    assert "steps" not in completed("steerer", OmegaConf.create({"method": "dps", "grid": [0, 1]}))
