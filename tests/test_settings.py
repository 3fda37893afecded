"""Settings: options with a type, a default, a meaning and a check, stated once."""

from dataclasses import MISSING, FrozenInstanceError, dataclass

import pytest

from alignflow import checks
from alignflow.settings import Option, Settings, from_options, option, optional, options


@dataclass(frozen=True, kw_only=True)
class Walk(Settings):
    steps: int = option(8, "from start to end", checks.count)
    scale: float | None = option(None, "of a step, free if None", optional(checks.positive))


@dataclass(frozen=True, kw_only=True)
class Named(Walk):
    name: str = option(MISSING, "of the walk")


def test_options_are_read_from_the_fields_in_their_order():
    assert options(Named) == {
        "steps": Option(int, 8, "from start to end"),
        "scale": Option(float | None, None, "of a step, free if None"),
        "name": Option(str, MISSING, "of the walk"),
    }


def test_settings_are_equal_by_value_and_frozen():
    assert Walk(steps=4) == from_options(Walk, {"steps": 4.0}, "the walk") != Walk()
    with pytest.raises(FrozenInstanceError):
        Walk().steps = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_values_are_checked_once_made_and_take_the_type_of_their_field():
    walk = Walk(steps=4.0, scale=2)  # pyright: ignore[reportArgumentType]
    assert type(walk.steps) is int and type(walk.scale) is int
    with pytest.raises(ValueError, match="^steps must be a whole number of at least 1, got 0$"):
        Walk(steps=0)
    with pytest.raises(ValueError, match="^scale must be a positive number, got -1"):
        Walk(scale=-1.0)


def test_an_unknown_option_is_told_with_the_known_ones_and_the_nearest():
    message = "^the walk does not take step; it takes steps, scale; did you mean 'steps'\\?$"
    with pytest.raises(ValueError, match=message):
        from_options(Walk, {"step": 3}, "the walk")
