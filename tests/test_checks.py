"""Checks of arguments: each names the argument, what was wanted and what came."""

import math

import numpy as np
import pytest
import torch

from alignflow import checks


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.float32(3), torch.tensor(3)])
def test_a_count_is_an_int_whatever_type_it_came_in(value):
    found = checks.count("steps", value)
    assert found == 3 and type(found) is int


@pytest.mark.parametrize(
    "value",
    [
        *(0, -1, 2.5, math.nan, math.inf, -math.inf, True, "3", None, [3], torch.ones(1), 1j),
        *(np.nan, 10**400),
    ],
    ids=repr,
)
def test_what_is_no_count_is_refused_by_name(value):
    with pytest.raises(ValueError, match="^steps must be a whole number of at least 1, got "):
        checks.count("steps", value)


def test_a_count_has_a_least_and_a_most():
    assert checks.count("n", 0, least=0) == 0
    with pytest.raises(ValueError, match="n must be a whole number from 2 to 4, got 5"):
        checks.count("n", 5, least=2, most=4)


def test_a_large_count_keeps_all_its_digits():
    assert checks.count("seed", 2**62 + 1, least=0) == 2**62 + 1


@pytest.mark.parametrize(
    ("check", "accepted", "refused"),
    [
        (checks.finite, [-1.5, 0, 2], [math.nan, math.inf, "1", None, False]),
        (checks.positive, [1e-9, 2], [0, -1, math.nan, math.inf]),
        (checks.nonnegative, [0, 2.5], [-1e-9, math.nan, math.inf]),
        (checks.fraction, [0, 0.5, 1], [-0.1, 1.1, math.nan]),
    ],
)
def test_numbers_are_checked_and_come_back(check, accepted, refused):
    for value in accepted:
        assert check("rate", value) == value
    for value in refused:
        with pytest.raises(ValueError, match="^rate must be .*, got "):
            check("rate", value)


def test_a_fraction_may_leave_out_its_ends():
    with pytest.raises(ValueError, match=r"decay must be a fraction in \(0, 1\], got 0"):
        checks.fraction("decay", 0, zero=False)
    with pytest.raises(ValueError, match=r"decay must be a fraction in \[0, 1\), got 1"):
        checks.fraction("decay", 1, one=False)


def test_a_flag_is_true_or_false_only():
    assert checks.flag("compile", True) is True
    for value in ("maybe", 1, None):
        with pytest.raises(ValueError, match="compile must be true or false, got "):
            checks.flag("compile", value)


def test_a_typo_is_answered_with_the_nearest_name():
    assert checks.choice("method", "tilt", ["tilt", "itm"]) == "tilt"
    with pytest.raises(ValueError, match="one of tilt, itm, got 'tild'; did you mean 'tilt'"):
        checks.choice("method", "tild", ["tilt", "itm"])
    with pytest.raises(ValueError, match="one of tilt, itm, got 3$"):
        checks.choice("method", 3, ["tilt", "itm"])


def test_a_generator_may_be_a_seed():
    ours = checks.as_generator(7)
    assert ours is not None
    theirs = torch.Generator().manual_seed(7)
    assert torch.equal(torch.randn(3, generator=ours), torch.randn(3, generator=theirs))
    assert checks.as_generator(theirs) is theirs
    assert checks.as_generator(None) is None
    for value in (-1, 1.5, "0", 2**70):
        with pytest.raises(ValueError, match="generator must be a torch.Generator or a seed"):
            checks.as_generator(value)


def test_a_large_value_is_shown_by_its_shape():
    assert checks.shown(torch.zeros(3, 4)) == "Tensor of shape (3, 4)"
    assert len(checks.shown("x" * 1000)) == 80


def test_what_torch_takes_becomes_a_tensor_and_the_rest_is_refused():
    rows = torch.tensor([1.0, 2.0])
    assert checks.as_tensor("data", rows) is rows
    assert torch.equal(checks.as_tensor("data", [1.0, 2.0]), rows)
    assert torch.equal(checks.as_tensor("data", rows.numpy()), rows)
    with pytest.raises(ValueError, match="data must be a tensor, or an array or list .*, got 'x'"):
        checks.as_tensor("data", "x")


def test_a_seed_by_name_is_answered_with_the_generator():
    @checks.refuse_seed
    def draw(n, generator=None):
        return n

    assert draw(3, generator=1) == 3
    with pytest.raises(ValueError, match=r"draw takes no seed: say generator=7 \(a whole number"):
        draw(3, seed=7)  # pyright: ignore[reportCallIssue]


def test_an_object_of_a_type_is_told_by_its_name_and_what_came():
    assert checks.instance("name", "red", str, "a text") == "red"
    with pytest.raises(ValueError, match="^name must be a text, got 3$"):
        checks.instance("name", 3, str, "a text")


def test_an_object_is_accepted_by_what_is_used_of_it_and_not_by_its_type():
    class Times:
        def pairs(self):
            return None

    times = Times()
    assert checks.offers("times", times, ("pairs",), "a sampler") is times
    with pytest.raises(ValueError, match="^times must be a sampler, got 3: int has no pairs$"):
        checks.offers("times", 3, ("pairs",), "a sampler")
    with pytest.raises(ValueError, match="a sampler, got <class .*: give an instance of it$"):
        checks.offers("times", Times, ("pairs",), "a sampler")


def test_what_is_called_is_refused_where_it_cannot_be():
    assert checks.called("callback", print, "(step)") is print
    with pytest.raises(ValueError, match=r"^callback must be a callable \(step\), got 'x'$"):
        checks.called("callback", "x", "(step)")
