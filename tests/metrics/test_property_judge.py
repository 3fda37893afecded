"""The judge by exact properties: its verdicts, its place in `evaluate`, refusals."""

import pytest
import torch

import alignflow as af
from alignflow.metrics import PropertyJudge
from alignflow.rewards import Length, Pattern, Prefix

TEXTS = ["anderson", "mcbee", "lee"]


def test_it_says_which_texts_have_which_property():
    judge = PropertyJudge({"son": Pattern("son$"), "mc": Prefix("mc"), "any": Length()})
    assert judge(TEXTS).tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 1]]
    assert judge.features(TEXTS)[:, 2].tolist() == [8, 5, 3]
    assert judge.labels == ("son", "mc", "any") and not judge.exclusive


def test_evaluate_tells_the_rate_of_each():
    vocabulary = af.Vocabulary.of(TEXTS)
    states = vocabulary.one_hot(vocabulary.encode(TEXTS, 8))
    judge = PropertyJudge(
        {"son": Pattern("son$"), "long": lambda texts: [len(t) > 4 for t in texts]}
    )
    found = af.evaluate(states, judges={"name": judge}, decode=vocabulary)
    assert found["name_son"].value == pytest.approx(1 / 3)
    assert found["name_long"].value == pytest.approx(2 / 3)


@pytest.mark.parametrize("properties", [{}, Length(), {"a": 3}], ids=str)
def test_what_are_no_properties_is_refused(properties):
    with pytest.raises(ValueError, match="propert"):
        PropertyJudge(properties)


def test_features_are_floats():
    assert PropertyJudge({"a": lambda texts: [1, 2, 3]}).features(TEXTS).dtype == torch.float32
