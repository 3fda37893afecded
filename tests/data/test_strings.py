"""Data sets of strings: weights, draws, properties, what training takes, and what is refused."""

import math

import pytest
import torch

from alignflow.data import Strings, Vocabulary, batches

CITIES = ["New York", "San Diego", "Rome"]


def test_strings_come_with_tokens_states_and_weights():
    cities = Strings.of(CITIES, weights=[1, 2, 1])
    assert len(cities) == 3 and cities.length == 9
    assert cities.event_shape == (9, cities.vocabulary.size)
    assert cities.strings == CITIES
    assert cities.weights.tolist() == [0.25, 0.5, 0.25]
    assert cities.entropy == pytest.approx(1.5 * math.log(2))
    assert cities.states().argmax(-1).equal(cities.tokens)
    assert Strings.of(CITIES, length=12).event_shape == (12, cities.vocabulary.size)


def test_without_weights_all_are_equal():
    assert Strings.of(CITIES).entropy == pytest.approx(math.log(3))


def test_strings_are_drawn_by_weight_and_never_those_of_none(generator):
    cities, n = Strings.of([*CITIES, "Lima"], weights=[0, 0.3, 0.7, 0]), 10_000
    counts = cities.draw(n, generator).bincount(minlength=4)
    assert counts[0] == counts[3] == 0
    # five standard errors
    assert counts[1].item() / n == pytest.approx(0.3, abs=5 * (0.21 / n) ** 0.5)


def test_a_batch_is_what_training_takes(generator):
    cities = Strings.of(CITIES)
    batch = batches(cities, 5)(generator)
    assert batch["data"].shape == (5, *cities.event_shape) and batch["data"].dtype == torch.float32
    assert set(cities.vocabulary.decode(batch["data"])) <= set(CITIES)
    assert cities.sample(5, 1)["data"].equal(cities.sample(5, generator.manual_seed(1))["data"])


def test_a_property_is_a_function_of_the_strings():
    cities = Strings.of(CITIES, weights=[1, 2, 1])
    assert cities.label(lambda strings: [len(s) for s in strings]).tolist() == [8, 9, 4]
    assert cities.mean(lambda strings: [" " in s for s in strings]) == 0.75
    with pytest.raises(ValueError, match="must answer with 3 numbers, got tensor"):
        cities.label(len)
    with pytest.raises(ValueError, match="function must be a callable"):
        cities.mean("length")


def test_some_of_the_rows_are_a_data_set():
    some = Strings.of(CITIES, weights=[1, 2, 1]).select([1, 2])
    assert some.strings == CITIES[1:]
    torch.testing.assert_close(some.weights, torch.tensor([2 / 3, 1 / 3], dtype=torch.float64))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "weights must be 3 numbers"),
        ([1, 2, -1], "not negative"),
        ([1, 2, float("nan")], "must be finite"),
        ([0, 0, 0], "not all 0"),
        ("abc", "weights must be a tensor"),
    ],
)
def test_what_are_no_weights_is_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        Strings.of(CITIES, weights)


def test_what_are_no_strings_is_refused():
    vocabulary = Vocabulary("ab")
    with pytest.raises(ValueError, match="string 1 is empty"):
        Strings.of(["Rome", ""])
    with pytest.raises(ValueError, match="there must be a string"):
        Strings.of([], vocabulary=vocabulary, length=3)
    with pytest.raises(ValueError, match="tokens must be integers"):
        Strings(torch.zeros(2, 3, 2), vocabulary)
    with pytest.raises(ValueError, match="from 0 to 1, got 2"):
        Strings(torch.full((2, 3), 2), vocabulary)
    with pytest.raises(ValueError, match="vocabulary must be a Vocabulary"):
        Strings.of(CITIES, vocabulary="ab")
