"""Nested state through JSON and back."""

import json
import math
from collections import namedtuple

import pytest
import torch

from alignflow.training.nested import pack, unpack

STATE = {
    "state": {0: {"step": torch.tensor(3.0), "history": [torch.ones(2), None]}},
    "param_groups": [
        {"params": [0, 1], "betas": (0.9, 0.999), "grown": math.inf, "d": 0.1 + 0.2, "fused": None}
    ],
}


def through_json(value, current=None):
    tensors = {}
    facts = json.loads(json.dumps(pack(value, "optimizer", tensors), allow_nan=False))
    return unpack(facts, tensors, current)


def test_dicts_lists_tuples_numbers_and_tensors_come_back_as_they_were():
    found = through_json(STATE)
    assert repr(found) == repr(STATE)
    assert list(found["state"]) == [0] and found["param_groups"][0]["betas"] == (0.9, 0.999)
    assert math.isnan(through_json(-math.nan)) and through_json(-math.inf) == -math.inf


def test_what_cannot_be_stored_is_what_it_is_now():
    point = namedtuple("point", "x")(1)
    saved = {"rule": abs, "inner": [1, point], "none": abs}
    assert through_json(saved, {"rule": max, "inner": [2, 3]}) == {
        "rule": max,
        "inner": [1, 3],
        "none": None,
    }


def test_numbers_of_numpy_are_numbers():
    numpy = pytest.importorskip("numpy")
    assert through_json({"k": numpy.int64(7)}) == {"k": 7}


def test_a_kind_of_value_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="'spell' is no kind of value"):
        unpack({"spell": 1}, {})
