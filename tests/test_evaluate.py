"""`af.evaluate`: what it reports, in what space each part sees the samples, and what it refuses."""

import json

import pytest
import torch
from tensordict import TensorDict

import alignflow as af
from alignflow.metrics import diversity, energy_distance, mean
from alignflow.targets import Quadratic, ring, ring_reward


class Shifted(af.FlowMap):
    """A model of one point, whose decoded samples are ten times its states."""

    def flow_map(self, x, s, t, condition=None):
        return torch.ones_like(x) if condition is None else condition[:, None] * torch.ones_like(x)

    def decode(self, x):
        return 10 * x


class Halves:
    """A judge of two attributes with names."""

    names = ("right", "above")

    def __call__(self, decoded):
        return decoded > 0


def first(endpoint):
    return endpoint[:, 0]


def test_every_part_reports_under_its_name(generator):
    target = ring()
    samples = target.sample(500, generator=generator)
    found = af.evaluate(
        samples,
        reward=ring_reward(),
        reference=target,
        judges={"half": Halves(), "far": lambda decoded: decoded.norm(dim=1) > 4},
        generator=generator,
    )
    assert list(found) == [
        *("reward", "half_right", "half_above", "far", "diversity"),
        *("sliced_wasserstein", "mmd", "energy_distance"),
    ]
    assert found["reward"] == mean(ring_reward()(samples))
    assert found["half_above"] == mean((samples[:, 1] > 0).float())
    assert found["diversity"] == diversity(samples)
    assert abs(found["energy_distance"].value) < 5 * found["energy_distance"].standard_error


def test_a_tensor_serves_as_the_reference_and_finds_the_tilt(generator):
    target, reward = ring(), ring_reward()
    base, tilted = target.sample(400, generator=generator), target.tilted(reward, 1.0)
    steered = tilted.sample(400, generator=generator)
    found = af.evaluate(steered, reference=base, generator=generator)
    assert found["energy_distance"].value == energy_distance(steered, base).value
    assert found["energy_distance"].value > 10 * found["energy_distance"].standard_error


def test_rewards_by_name_and_samples_of_a_steerer():
    samples = TensorDict({"state": torch.arange(8.0).reshape(4, 2)}, [4])
    rewards = {"first": first, "bowl": Quadratic(torch.zeros(2))}
    found = af.evaluate(samples, reward=rewards)
    assert found["reward_first"].value == 3.0
    assert found["reward_bowl"].value == pytest.approx(-(torch.arange(8.0) ** 2).sum().item() / 8)


def test_rewards_and_judges_see_what_the_reference_model_decodes():
    samples = torch.arange(8.0).reshape(4, 2)
    model = Shifted((2,))
    assert af.evaluate(samples, reward=first, reference=model)["reward"].value == 30.0
    raw = af.evaluate(samples, reward=first, reference=model, decode=lambda x: x)
    assert raw["reward"].value == 3.0
    judged = af.evaluate(samples, judges={"first": first}, decode=model.decode)
    assert judged["first"].value == 30.0


def test_batches_change_nothing_and_carry_each_sample_its_condition():
    samples, condition = torch.zeros(7, 2), torch.arange(7.0)

    def conditional(endpoint, condition):
        assert condition.shape == endpoint.shape[:1]
        return condition

    for batch_size in (2, 7, 100):
        found = af.evaluate(
            samples,
            reward=conditional,
            reference=Shifted((2,)),
            condition=condition,
            batch_size=batch_size,
            generator=torch.Generator().manual_seed(0),
        )
        assert found["reward"].value == 3.0
        expected = sum(2 * c * c / 2 for c in range(7)) / 7
        assert found["sliced_wasserstein"].value ** 2 == pytest.approx(expected, rel=0.3)


def test_features_add_a_frechet_distance(generator):
    x = torch.randn(50, 3, 4, 4, generator=generator)
    found = af.evaluate(x, reference=x + 1, features=lambda image: image.mean((2, 3)))
    assert found["frechet_distance"].value == pytest.approx(3.0, abs=1e-4)


def test_result_is_json_and_a_table():
    found = af.evaluate(torch.eye(4), reward=first)
    stored = json.loads(json.dumps(found.to_dict()))
    assert stored["samples"] == 4
    assert stored["reward"]["value"] == 0.25
    assert "reward" in str(found) and "0.25" in str(found) and "4 samples" in str(found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: af.evaluate(torch.zeros(3)), r"states \(N, \*E\)"),
        (lambda: af.evaluate(torch.zeros(1, 2)), "N >= 2"),
        (lambda: af.evaluate(torch.full((3, 2), torch.nan)), "must be finite"),
        (lambda: af.evaluate(torch.zeros(3, 2), reference=torch.zeros(3, 4)), "one event shape"),
        (lambda: af.evaluate(torch.zeros(3, 2), reward=lambda x: x), "one number for each"),
    ],
)
def test_what_cannot_be_judged_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_notebook_shows_an_evaluation_and_a_check_as_tables():
    found = af.evaluate(ring().sample(20, generator=torch.Generator().manual_seed(0)),
                        reward={"<r>": ring_reward()})  # fmt: skip
    shown = found._repr_html_()
    assert "<b>20 samples</b>" in shown and "&lt;r&gt;" in shown and "standard error" in shown
    sound = af.check_reward(ring_reward(), ring())._repr_html_()
    assert "<td>sound</td>" in sound
    wrong = af.check_reward(lambda x: x, ring())._repr_html_()
    assert "black box" in wrong and "must return" in wrong and "<td>- " not in wrong
