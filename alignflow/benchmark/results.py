"""Measurements as JSON lines, and their means over seeds."""

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from alignflow.metrics import Estimate, mean
from alignflow.metrics.names import current

from .measure import COSTS, DISTANCES, RATES
from .tuning import TUNING_COSTS

__all__ = ["FLOOR", "Key", "Results", "Row"]

FLOOR = "exact samples"
UNBIASED = ("mmd", "energy_distance")  # of mean 0 between exact samples
MEASURED = (*DISTANCES, "reward", *RATES, *COSTS, *TUNING_COSTS)


class Key(NamedTuple):
    """What was measured."""

    case: str
    samples: int
    method: str
    seed: int


@dataclass(frozen=True)
class Row:
    """Means over seeds of one method on one case."""

    case: str
    samples: int
    method: str
    values: dict[str, Estimate]
    floors: dict[str, float]

    @property
    def title(self) -> str:
        """Of the table that the row is in."""
        return f"{self.case}, {self.samples:,} samples"

    @property
    def distance(self) -> str:
        """The one in plots and summaries: total variation of strings, sliced W2 of other states."""
        return "total_variation" if "total_variation" in self.values else "sliced_w2"

    def ratio(self, distance: str) -> Estimate:
        """Distance divided by the sampling floor."""
        floor = self.floors.get(distance, math.nan)
        found = self.values[distance]
        return Estimate(found.value / floor, found.standard_error / floor)

    @property
    def cost(self) -> float:
        """Forwards of the network for one sample, a gradient counted as two; NaN if not counted."""
        if "nfe" not in self.values:
            return math.nan
        vjps = self.values["vjps"].value if "vjps" in self.values else 0.0
        return self.values["nfe"].value + 2 * vjps


class Results:
    """A file of measurements, which an interrupted run continues.

    Args:
        path: Of the JSON lines.
    """

    def __init__(self, path: Path):
        self.path = path
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # a line that was cut has no end
        if whole != text:
            path.write_text(whole)
        lines = map(json.loads, whole.splitlines())
        entries = [{current(name): value for name, value in line.items()} for line in lines]
        # of one measured twice, as a tuner is that was cut between its rows, the last
        self.found = {Key(*(entry[name] for name in Key._fields)): entry for entry in entries}

    def __contains__(self, key: Key) -> bool:
        return key in self.found

    def add(self, key: Key, measured: dict[str, float]) -> None:
        """Record a measurement."""
        entry = key._asdict() | measured
        self.found[key] = entry
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def rows(self) -> list[Row]:
        """Means over seeds, exact samples first, methods in the order they were measured in."""
        groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
        for key, entry in self.found.items():
            groups.setdefault(key[:3], []).append(entry)
        floors = {
            (case, samples): {name: _floor(of, name) for name in DISTANCES if name in of[0]}
            for (case, samples, method), of in groups.items()
            if method == FLOOR
        }
        return [
            Row(
                *group,
                {n: _mean(entries, n) for n in MEASURED if any(n in entry for entry in entries)},
                floors.get(group[:2], {}),
            )
            for group, entries in groups.items()
        ]

    def write_csv(self, path: Path) -> None:
        """Every measurement as a line of a table."""
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*Key._fields, *MEASURED], restval="")
            writer.writeheader()
            writer.writerows(self.found.values())


def _floor(entries: list[dict[str, Any]], name: str) -> float:
    """The sampling floor of a distance: its mean, or its mean size where that is 0."""
    if name in UNBIASED:
        return math.sqrt(sum(entry[name] ** 2 for entry in entries) / len(entries))
    return _mean(entries, name).value


def _mean(entries: Iterable[dict[str, Any]], name: str) -> Estimate:
    # a run that diverged has no cost
    values = [entry[name] for entry in entries if name in entry]
    return mean(torch.tensor(values, dtype=torch.float64))
