"""Conditions by rows: tensors, arrays, TensorDicts, texts, mappings, all cut by one rule."""

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from alignflow.conditions import (
    as_given,
    as_rows,
    check_rows,
    condition_rows,
    count_rows,
    cycled,
    draw_rows,
    drop_rows,
    flat_rows,
    group_rows,
    join_rows,
    null_rows,
    repeat_rows,
    rows_of,
    take_rows,
)


def plain(rows):
    """Rows as lists, whatever they are held in."""
    if isinstance(rows, TensorDict):
        return {key: plain(rows[key]) for key in rows.keys()}
    if isinstance(rows, dict):
        return {key: plain(field) for key, field in rows.items()}
    return rows.tolist() if isinstance(rows, torch.Tensor | np.ndarray) else list(rows)


KINDS = {
    "tensor": (torch.tensor([3, 1, 2, 1]), [3, 1, 2, 1]),
    "vectors": (torch.tensor([[3.0], [1.0], [2.0], [1.0]]), [[3.0], [1.0], [2.0], [1.0]]),
    "array": (np.array([3, 1, 2, 1]), [3, 1, 2, 1]),
    "list": ([3, 1, 2, 1], [3, 1, 2, 1]),
    "tuple": ((3, 1, 2, 1), [3, 1, 2, 1]),
    "tensors": ([torch.tensor(i) for i in (3, 1, 2, 1)], [3, 1, 2, 1]),
    "texts": (["c", "a", "b", "a"], ["c", "a", "b", "a"]),
    "array of texts": (np.array(["c", "a", "b", "a"]), ["c", "a", "b", "a"]),
    "mappings": ([{"i": i} for i in (3, 1, 2, 1)], [{"i": i} for i in (3, 1, 2, 1)]),
    "mapping": (
        {"a": torch.tensor([3, 1, 2, 1]), "b": ["c", "a", "b", "a"]},
        {"a": [3, 1, 2, 1], "b": ["c", "a", "b", "a"]},
    ),
    "TensorDict": (TensorDict({"a": torch.tensor([3, 1, 2, 1])}, [4]), {"a": [3, 1, 2, 1]}),
}
FOUR = pytest.mark.parametrize(("condition", "rows"), KINDS.values(), ids=KINDS)


def chosen(rows, numbers):
    if isinstance(rows, dict):
        return {key: chosen(field, numbers) for key, field in rows.items()}
    return [rows[i] for i in numbers]


@FOUR
def test_conditions_of_as_many_rows_are_the_rows(condition, rows):
    given = condition_rows(condition, 4, "cpu")
    assert plain(given) == rows
    assert isinstance(given, TensorDict) == isinstance(condition, TensorDict)


@FOUR
def test_rows_are_cut_indexed_repeated_and_cycled_alike(condition, rows):
    assert plain(rows_of(condition, slice(1, 3), 4)) == chosen(rows, [1, 2])
    given = condition_rows(condition, 4, "cpu")
    assert plain(take_rows(given, torch.tensor([2, 2, 0]))) == chosen(rows, [2, 2, 0])
    assert plain(repeat_rows(condition, 2)) == chosen(rows, [0, 0, 1, 1, 2, 2, 3, 3])
    assert plain(cycled(condition, 6, "cpu")) == chosen(rows, [0, 1, 2, 3, 0, 1])


@FOUR
def test_equal_rows_are_one_group(condition, rows):
    groups = group_rows(condition, 4).tolist()
    assert groups[1] == groups[3] and len(set(groups)) == 3


@FOUR
def test_another_number_of_rows_is_refused(condition, rows):
    with pytest.raises(ValueError, match="5 samples need one condition or 5, got 4"):
        condition_rows(condition, 5, torch.device("cpu"))
    with pytest.raises(ValueError, match="5 samples need one condition or 5, got 4"):
        check_rows(condition, 5)


SINGLE = {
    "number": (7, [7, 7, 7]),
    "NumPy's number": (np.int64(7), [7, 7, 7]),
    "scalar": (torch.tensor(7), [7, 7, 7]),
    "one row": (torch.tensor([7]), [7, 7, 7]),
    "one vector": (torch.tensor([[7, 8]]), [[7, 8]] * 3),
    "text": ("a cat", ["a cat"] * 3),
    "one text": (["a cat"], ["a cat"] * 3),
    "mapping": ({"a": 7, "b": "a cat"}, {"a": [7] * 3, "b": ["a cat"] * 3}),
    "TensorDict": (TensorDict({"a": torch.tensor(7)}, []), {"a": [7, 7, 7]}),
}


@pytest.mark.parametrize(("condition", "rows"), SINGLE.values(), ids=SINGLE)
def test_one_condition_holds_for_all_samples(condition, rows):
    assert plain(condition_rows(condition, 3, "cpu")) == rows
    assert plain(cycled(condition, 3, "cpu")) == rows
    check_rows(condition, 3)


def test_no_condition_is_no_condition():
    assert condition_rows(None, 3, "cpu") is None and cycled(None, 3, "cpu") is None
    assert repeat_rows(None, 2) is None and rows_of(None, slice(2), 3) is None
    assert group_rows(None, 3).tolist() == [0, 0, 0]


DROPPED = {
    "labels": (torch.tensor([3, 1]), [3, -1]),
    "bytes": (torch.tensor([3, 1], dtype=torch.uint8), [3, -1]),
    "vectors": (torch.tensor([[3.0, 4.0], [1.0, 2.0]]), [[3.0, 4.0], [-1.0, -1.0]]),
    "texts": (["a", "b"], ["a", ""]),
    "mappings": (
        [{"i": 3, "t": "a"}, {"i": 1, "t": "b"}],
        [{"i": 3, "t": "a"}, {"i": -1, "t": ""}],
    ),
    "mapping": ({"a": torch.tensor([3, 1])}, {"a": [3, -1]}),
    "TensorDict": (
        TensorDict({"a": torch.tensor([[3, 4], [1, 2]]), "b": ["a", "b"]}, [2]),
        {"a": [[3, 4], [-1, -1]], "b": ["a", ""]},
    ),
}


@pytest.mark.parametrize(("condition", "left"), DROPPED.values(), ids=DROPPED)
def test_a_dropped_row_is_null_as_a_whole_and_the_others_stay(condition, left):
    before = condition.clone() if isinstance(condition, torch.Tensor | TensorDict) else None
    dropped = drop_rows(condition, torch.tensor([False, True]))
    assert plain(dropped) == left and isinstance(dropped, type(condition))
    assert before is None or (before == condition).all()


def test_texts_come_back_from_a_tensordict_as_a_list():
    held = TensorDict({"condition": ["a", "b"]}, [2])
    assert as_given(held.get("condition")) == ["a", "b"]
    assert rows_of(as_given(held[1:].get("condition")), slice(1), 1) == ["b"]


MANY = {
    "a number": (7, [7]),
    "labels": ([3, 1], [3, 1]),
    "a text": ("a cat", ["a cat"]),
    "texts": (("a", "b"), ["a", "b"]),
    "a mapping of one": ({"a": torch.tensor([3, 1]), "b": "x"}, {"a": [3, 1], "b": ["x", "x"]}),
    "a TensorDict of texts": (TensorDict({"b": ["x", "y"]}, [2]), {"b": ["x", "y"]}),
}


@pytest.mark.parametrize(("condition", "rows"), MANY.values(), ids=MANY)
def test_conditions_to_train_for_are_rows_of_their_kind(condition, rows):
    assert plain(as_rows(condition)) == rows
    first = next(iter(rows.values())) if isinstance(rows, dict) else rows
    assert count_rows(as_rows(condition)) == len(first)


def test_rows_are_drawn_evenly_from_conditions_of_any_kind(generator):
    """700 draws of 7: five standard deviations of a count of 100 are 46."""
    numbers = draw_rows(torch.arange(7), 700, generator, "cpu")
    texts = draw_rows(list("abcdefg"), 700, torch.Generator().manual_seed(0), "cpu")
    assert texts == ["abcdefg"[i] for i in numbers]
    assert (torch.bincount(numbers) - 100).abs().max() < 46
    assert draw_rows(None, 3, generator, "cpu") is None


@FOUR
def test_a_mask_takes_rows_and_joined_parts_are_the_whole(condition, rows):
    given = condition_rows(condition, 4, "cpu")
    mask = torch.tensor([True, False, False, True])
    assert plain(take_rows(given, mask)) == chosen(rows, [0, 3])
    halves = [take_rows(given, part) for part in torch.arange(4).split(2)]
    assert plain(join_rows(halves)) == rows


@FOUR
def test_a_tensordict_gives_its_conditions_as_rows_of_one_batch(condition, rows):
    held = TensorDict({"condition": condition_rows(condition, 4, "cpu")}, [4]).reshape(2, 2)
    assert plain(flat_rows(held.get("condition"), 2)) == rows


def test_a_model_says_what_its_null_row_is():
    lost = torch.tensor([False, True])
    assert drop_rows(torch.tensor([3, 1]), lost, null=9).tolist() == [3, 9]
    assert drop_rows(["a", "b"], lost, null="<none>") == ["a", "<none>"]
    fields = drop_rows({"a": torch.tensor([3, 1]), "b": ["x", "y"]}, lost, {"a": 0, "b": "-"})
    assert plain(fields) == {"a": [3, 0], "b": ["x", "-"]}
    assert null_rows(None, 3, "cpu") is None and null_rows("", 2, "cpu") == ["", ""]
    assert plain(null_rows({"a": 0, "b": "-"}, 2, "cpu")) == {"a": [0, 0], "b": ["-", "-"]}
