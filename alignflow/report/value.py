"""JSON that somebody else wrote, read so that every complaint names the file and the key."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Estimate", "Interval", "ReportError", "Value", "read_json", "read_json_lines"]


class ReportError(ValueError):
    """A run folder lacks what a report is made of, or holds something else there."""


class Interval(NamedTuple):
    """A value with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return max(self.value - self.low, self.high - self.value)


class Estimate(NamedTuple):
    """A value with its standard error."""

    value: float
    error: float

    @property
    def interval(self) -> Interval:
        return Interval(self.value, self.value - 1.96 * self.error, self.value + 1.96 * self.error)


class Value:
    """A JSON value that knows its file and key; its readers check what they return."""

    def __init__(self, value: Any, file: Path, key: str = ""):
        self.value, self.file, self.key = value, file, key

    def __getitem__(self, name: str) -> "Value":
        key = f"{self.key}.{name}" if self.key else name
        if not isinstance(self.value, dict):
            raise self.error("an object")
        if name not in self.value:
            raise ReportError(f"{self.file} has no {key!r}")
        return Value(self.value[name], self.file, key)

    def get(self, name: str) -> "Value | None":
        """The entry, or None where it is missing or null."""
        if isinstance(self.value, dict) and self.value.get(name) is None:
            return None
        return self[name]

    def error(self, wanted: str) -> ReportError:
        shown = repr(self.value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return ReportError(f"{self.file}: {self.key or 'the file'} must be {wanted}, got {shown}")

    def entries(self) -> list["Value"]:
        if not isinstance(self.value, list):
            raise self.error("a list")
        return [Value(v, self.file, f"{self.key}[{i}]") for i, v in enumerate(self.value)]

    def by_name(self) -> dict[str, "Value"]:
        if not isinstance(self.value, dict):
            raise self.error("an object")
        return {name: self[name] for name in self.value}

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value:
            raise self.error("a text")
        return self.value

    def one_of(self, choices: tuple[str, ...]) -> str:
        if self.value not in choices:
            raise self.error(f"one of {', '.join(choices)}")
        return self.value

    def number(self) -> float:
        is_number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        if not is_number or not math.isfinite(self.value):
            raise self.error("a finite number")
        return float(self.value)

    def numbers(self) -> list[float]:
        return [entry.number() for entry in self.entries()]

    def estimate(self) -> Estimate:
        numbers = self.numbers()
        if len(numbers) != 2 or numbers[1] < 0:
            raise self.error("[value, standard error]")
        return Estimate(*numbers)

    def interval(self) -> Interval:
        numbers = self.numbers()
        # a rate of exactly 0 or 1 sits on its bound, up to rounding
        if len(numbers) != 3 or not numbers[1] - 1e-9 <= numbers[0] <= numbers[2] + 1e-9:
            raise self.error("[value, low, high] with low <= value <= high")
        return Interval(*numbers)


def read_json(file: Path) -> Value:
    """The content of a JSON file.

    Raises:
        ReportError: If it is missing or is not JSON.
    """
    try:
        return Value(json.loads(file.read_text("utf-8")), file)
    except FileNotFoundError as error:
        raise ReportError(f"{file} is missing") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{file} is not JSON: {error}") from error


def read_json_lines(file: Path) -> list[Value]:
    """Values of a file of JSON lines; half a last line, as a kill leaves it, is passed over."""
    lines = file.read_text("utf-8").splitlines()
    values = []
    for number, line in enumerate(lines, start=1):
        try:
            values.append(Value(json.loads(line), file, f"line {number}"))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ReportError(f"{file}: line {number} is not JSON: {error}") from error
    return values
