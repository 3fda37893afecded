"""Lists of strings that samples are compared with: exact weights under a tilt, distances to it."""

import math

import pytest
import torch

from alignflow.data import Strings
from alignflow.rewards import Length, Pattern, TokenCount
from alignflow.targets import ListedStrings, Sequences, TiltedStrings
from alignflow.tilt import Tilt

LIST = Strings.of(["ab", "b", "abb"], [1.0, 2.0, 1.0])


def test_a_tilted_list_has_weights_times_the_exponential_of_the_reward():
    found = TiltedStrings(LIST, Tilt(Length(), 0.5))
    weight = torch.tensor([math.exp(1), 2 * math.exp(0.5), math.exp(1.5)], dtype=torch.float64)
    torch.testing.assert_close(found.weights, weight / weight.sum())
    torch.testing.assert_close(found.weights, Sequences(LIST).tilted(Length(), 0.5).weights)
    torch.testing.assert_close(found.rewards, torch.tensor([2, 1, 3], dtype=torch.float64))


def test_a_reward_of_states_is_given_states():
    count = TokenCount(LIST.vocabulary, "b")
    assert TiltedStrings(LIST, Tilt(count, 1.0)).rewards.tolist() == [1, 1, 2]


def test_its_samples_come_by_weight(generator):
    found = TiltedStrings(LIST, Tilt(Pattern("^b$"), 1.0))
    drawn = LIST.vocabulary.decode(found.sample(4000, generator))
    rate = sum(text == "b" for text in drawn) / 4000
    assert rate == pytest.approx(found.weights[1].item(), abs=5 * 0.5 / 4000**0.5)


def test_total_variation_and_what_is_not_on_the_list():
    found = TiltedStrings(LIST, Tilt(Length(), 0.0))
    exact = found.compare(["ab", "b", "b", "abb"] * 10)
    assert exact["total_variation"].value == pytest.approx(0)
    assert exact["off_list"].value == 0
    far = found.compare(["ab", "ba", "ab", "aa"] * 10)
    assert far["total_variation"].value == pytest.approx(0.75)
    assert far["off_list"].value == 0.5


def test_two_spellings_of_a_molecule_are_one():
    pytest.importorskip("rdkit")
    pytest.importorskip("selfies")
    from alignflow.data import SelfiesVocabulary

    strings = Strings.of(["CCO", "CN"], vocabulary=SelfiesVocabulary.of(["CCO", "CN"]))
    found = TiltedStrings(strings, Tilt(Length(), 0.0)).compare(["OCC", "NC", "CC", "CO"])
    assert found["off_list"].value == 0.5


def test_a_list_as_it_is_draws_by_its_own_weights(generator):
    found = ListedStrings(LIST, {"length": Length()})
    drawn = LIST.vocabulary.decode(found.sample(4000, generator))
    assert sum(text == "b" for text in drawn) / 4000 == pytest.approx(0.5, abs=0.04)
    assert found.observables["length"](["ab"]).tolist() == [2]


def test_what_is_no_list_or_no_tilt_is_refused():
    with pytest.raises(ValueError, match="strings must be a data set of strings"):
        ListedStrings(["ab"])
    with pytest.raises(ValueError, match="tilt must be a Tilt"):
        TiltedStrings(LIST, Length())
