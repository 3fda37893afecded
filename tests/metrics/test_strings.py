"""Measures of strings against counts by hand."""

import math

import pytest
import torch

from alignflow.metrics import distinct, entropy, listed, rates

STRINGS = ["ab", "ab", "b", "ca"]


def test_listed_is_the_fraction_on_a_list():
    found = listed(STRINGS, ["ab", "other"])
    assert found.value == 0.5
    assert found.standard_error == pytest.approx(torch.tensor([1.0, 1, 0, 0]).std().item() / 2)


def test_distinct_counts_different_strings():
    assert distinct(STRINGS) == 3


def test_entropy_is_that_of_the_frequencies():
    assert entropy(STRINGS).value == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4))
    assert entropy(["a"] * 63).value == 0 == entropy(["a"] * 63).standard_error
    assert entropy([str(i) for i in range(63)]).value == pytest.approx(math.log(63))


def test_rates_are_means_of_properties():
    asked = []

    def length(strings):
        asked.extend(strings)
        return [len(s) for s in strings]

    found = rates(STRINGS, {"length": length, "has b": lambda texts: ["b" in s for s in texts]})
    assert found["length"].value == 7 / 4 and found["has b"].value == 3 / 4
    assert found["has b"].standard_error == pytest.approx(
        torch.tensor([1.0, 1, 1, 0]).std().item() / 2
    )
    assert sorted(asked) == ["ab", "b", "ca"]


def test_what_is_no_batch_of_texts_is_refused():
    for measure in (distinct, entropy, lambda strings: listed(strings, [])):
        for wrong in ("text", []):
            with pytest.raises(ValueError, match="strings must be several texts, got"):
                measure(wrong)


def test_a_property_must_answer_with_one_number_a_text():
    with pytest.raises(ValueError, match="'wrong' must answer with 3 numbers"):
        rates(STRINGS, {"wrong": lambda texts: [1.0]})
