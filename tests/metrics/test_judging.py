"""`af.evaluate`: what it reports, in what space each part sees the samples, and what it refuses."""

import json

import pytest
import torch
from tensordict import TensorDict

import alignflow as af
from alignflow.metrics import diversity, energy_distance, mean
from alignflow.targets import Checkerboard, Quadratic, ring, ring_judge, ring_reward


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
        *("sliced_w2", "mmd", "energy_distance"),
    ]
    assert found["reward"] == mean(ring_reward()(samples))
    assert found["half_above"] == mean((samples[:, 1] > 0).float())
    assert found["diversity"] == diversity(samples)
    assert abs(found["energy_distance"].value) < 5 * found["energy_distance"].standard_error


def test_a_tensor_serves_as_the_reference_and_the_tilt_is_far_from_the_base(generator):
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

    results = []
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
        assert found["sliced_w2"].value ** 2 == pytest.approx(expected, rel=0.3)
        results.append(found)
    assert results[0] == results[1] == results[2]


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


class Batched(af.FlowMap):
    """A model with batch statistics that a forward in training mode would move."""

    def __init__(self):
        super().__init__((2,))
        self.norm = torch.nn.BatchNorm1d(2)

    def flow_map(self, x, s, t, condition=None):
        return self.norm(x + 3)


def test_a_reference_in_training_mode_is_left_as_it_was():
    model = Batched().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    af.evaluate(torch.randn(8, 2), reference=model, generator=0)
    assert model.training and model.norm.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def labelled(endpoint, condition=None):
    rows = condition["label"] if hasattr(condition, "keys") else condition
    return [float(row) for row in rows]


N = 1500
LABELS = torch.arange(N)
PER_SAMPLE = {
    "tensor": LABELS,
    "list": LABELS.tolist(),
    "array": LABELS.numpy(),
    "texts": [str(i) for i in range(N)],
    "TensorDict": TensorDict({"label": LABELS}, [N]),
    "mapping": {"label": LABELS.tolist()},
}


@pytest.mark.parametrize("condition", PER_SAMPLE.values(), ids=PER_SAMPLE)
def test_each_chunk_gets_its_rows_of_one_condition_a_sample(condition):
    found = af.evaluate(torch.zeros(N, 1), reward=labelled, condition=condition, batch_size=400)
    assert found["reward"].value == 749.5


def test_a_reference_is_drawn_under_the_same_conditions():
    samples = torch.ones(6, 2)
    model = Shifted((2,))
    found = af.evaluate(
        samples, reference=model, condition=[1, 1, 1, 3, 3, 3], batch_size=2, generator=0
    )
    assert found["sliced_w2"].value > 0.5
    same = af.evaluate(samples, reference=model, condition=1, batch_size=4, generator=0)
    assert same["sliced_w2"].value == 0


@pytest.mark.parametrize("name", ["reward", "diversity", "mmd", "samples", "frechet_distance"])
def test_a_judge_does_not_replace_another_measure(name):
    with pytest.raises(ValueError, match=f"judge '{name}' would replace the measure '{name}'"):
        af.evaluate(torch.zeros(4, 2), reward=first, judges={name: first})


def test_a_judge_s_column_does_not_replace_another_measure_either():
    judges = {"half": Halves(), "half_above": lambda decoded: decoded[:, 0]}
    with pytest.raises(ValueError, match="would replace the measure 'half_above'"):
        af.evaluate(torch.zeros(4, 2), judges=judges)
    with pytest.raises(ValueError, match="would replace the measure 'reward_a'"):
        af.evaluate(torch.zeros(4, 2), reward={"a": first}, judges={"reward_a": first})


def test_labels_of_a_judge_name_its_columns():
    judge = ring_judge()
    found = af.evaluate(ring().sample(16, generator=0), judges={"mode": judge})
    assert [name for name in found if name.startswith("mode")] == [
        f"mode_mode {i}" for i in range(1, 9)
    ]


JUDGED = {
    "NaN": (lambda x: x[:, 0] * torch.nan, "judge 'odd' is NaN or infinite for 4 of 4 samples"),
    "another number": (lambda x: torch.zeros(3), r"judge 'odd' must answer 4 samples .* \(4,\)"),
    "one number": (lambda x: 0.5, "judge 'odd' must answer 4 samples"),
    "texts": (lambda x: ["a"] * 4, "judge 'odd' must answer with numbers"),
    "no function": (3, "judge 'odd' must be callable, got 3"),
}


@pytest.mark.parametrize(("judge", "message"), JUDGED.values(), ids=JUDGED)
def test_a_judge_that_does_not_answer_with_finite_numbers_is_refused_by_name(judge, message):
    with pytest.raises(ValueError, match=message):
        af.evaluate(torch.zeros(4, 2), judges={"odd": judge})


def test_names_that_are_fewer_than_a_judge_s_numbers_are_refused():
    class Short(Halves):
        names = ("right",)

    with pytest.raises(ValueError, match="answers with 2 numbers a sample and names 1: right"):
        af.evaluate(torch.zeros(4, 2), judges={"half": Short()})


WRONG = {
    "a name": ({"reference": "avatars"}, r"reference must be a flow map.*af\.load\('avatars'\)"),
    "a network": ({"reference": torch.nn.Identity()}, r"af\.FlowMapPolicy"),
    "a judge alone": ({"judges": first}, r"judges must be a mapping, \{name: judge\}"),
    "batch_size": ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
    "seed": ({"seed": 1}, "evaluate takes no seed: say generator=1"),
    "conditions": ({"condition": [1, 2]}, "4 samples need one condition or 4, got 2"),
    "bytes": ({"samples": torch.zeros(4, 2).byte()}, "samples must be floats, got torch.uint8"),
    "a NaN reference": ({"reference": torch.full((4, 2), torch.nan)}, "reference must be finite"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_evaluated_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        af.evaluate(**({"samples": torch.zeros(4, 2)} | options))


def test_arrays_and_sources_of_samples_are_accepted():
    samples = ring().sample(64, generator=0)
    from_array = af.evaluate(samples.numpy(), reference=samples.numpy(), generator=0)
    assert from_array == af.evaluate(samples, reference=samples, generator=0)
    assert "mmd" in af.evaluate(samples, reference=Checkerboard(), generator=0)


def test_a_notebook_shows_an_evaluation_and_a_check_as_tables():
    found = af.evaluate(ring().sample(20, generator=torch.Generator().manual_seed(0)),
                        reward={"<r>": ring_reward()})  # fmt: skip
    shown = found._repr_html_()
    assert "<b>20 samples</b>" in shown and "&lt;r&gt;" in shown and "standard error" in shown
    sound = af.check_reward(ring_reward(), ring())._repr_html_()
    assert "<td>sound</td>" in sound
    wrong = af.check_reward(lambda x: x, ring())._repr_html_()
    assert "black box" in wrong and "must return" in wrong and "<td>- " not in wrong


TEXTS = af.targets.Sequences(["bad", "dab", "ad", "a"], [1, 2, 3, 4])


def length(endpoint):
    return torch.tensor([float(len(text)) for text in endpoint])


def test_texts_are_judged_as_their_states_are(generator):
    states = TEXTS.sample(300, generator=generator)
    judges = {"letters": length}
    options = {"reward": length, "judges": judges, "reference": TEXTS}
    ours = af.evaluate(TEXTS.decode(states), **options, generator=1)
    theirs = af.evaluate(states, **options, generator=1)
    assert list(ours) == list(theirs)
    # characters are this vocabulary's tokens, in another order
    for name in ("reward", "letters", "diversity", "energy_distance", "mmd"):
        assert ours[name].value == pytest.approx(theirs[name].value, abs=1e-4)
    texts = TEXTS.decode(TEXTS.sample(300, generator=generator))
    assert abs(ours["energy_distance"].value) < 5 * ours["energy_distance"].standard_error
    far = af.evaluate(["bad"] * 100, reference=texts, features=lambda t: length(t)[:, None])
    assert far["energy_distance"].value > 0.5 and far["frechet_distance"].value > 1
    assert af.evaluate(["", "a", "ab"], reward=length)["reward"].value == 1.0


@pytest.mark.parametrize(
    ("samples", "reference", "message"),
    [
        (["a"], None, "samples must be states .* or N texts, N >= 2"),
        (["a", 3], None, "samples must be states .* or N texts"),
        (["a", "b"], torch.zeros(4, 2), "must be both states or both texts"),
        (["a", "b"], ring(), "must be both states or both texts"),
        (torch.zeros(4, 2), ["a", "b"], "must be both states or both texts"),
    ],
)
def test_texts_that_cannot_be_compared_are_refused(samples, reference, message):
    with pytest.raises(ValueError, match=message):
        af.evaluate(samples, reference=reference)
