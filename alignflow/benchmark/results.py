"""What was measured, kept as JSON lines, and its means over seeds."""

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alignflow.metrics import Estimate, mean

from .measure import COSTS, DISTANCES

__all__ = ["FLOOR", "Results", "Row"]

FLOOR = "exact samples"
UNBIASED = ("mmd", "energy")  # of mean 0 between exact samples

Key = tuple[str, str, int]
"""A case's title, a method's name, a seed."""


@dataclass(frozen=True)
class Row:
    """Means over seeds of one method on one case."""

    case: str
    method: str
    values: dict[str, Estimate]
    floors: dict[str, float]

    def ratio(self, distance: str) -> Estimate:
        """A distance over the floor."""
        floor = self.floors.get(distance, math.nan)
        found = self.values[distance]
        return Estimate(found.value / floor, found.standard_error / floor)

    @property
    def cost(self) -> float:
        """Forwards of the network for one sample, a gradient counted as two."""
        return self.values["nfe"].value + 2 * self.values["vjps"].value


class Results:
    """A file of measurements, which a run that was cut goes on with.

    Args:
        path: Of the JSON lines.
    """

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.found: dict[Key, dict[str, Any]] = {}
        for line in lines:
            entry = json.loads(line)
            self.found[entry["case"], entry["method"], entry["seed"]] = entry

    def __contains__(self, key: Key) -> bool:
        return key in self.found

    def add(self, key: Key, measured: dict[str, float]) -> None:
        """Keep a measurement."""
        entry = dict(zip(("case", "method", "seed"), key, strict=True)) | measured
        self.found[key] = entry
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def rows(self) -> list[Row]:
        """Means over seeds, methods in the order in which they were measured."""
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for (case, method, _), entry in self.found.items():
            groups.setdefault((case, method), []).append(entry)
        floors = {
            case: {name: _floor(entries, name) for name in DISTANCES if name in entries[0]}
            for (case, method), entries in groups.items()
            if method == FLOOR
        }
        return [
            Row(
                case,
                method,
                {n: _mean(entries, n) for n in (*DISTANCES, *COSTS) if n in entries[0]},
                floors.get(case, {}),
            )
            for (case, method), entries in groups.items()
            if method != FLOOR
        ]

    def write_csv(self, path: Path) -> None:
        """Every measurement as a line of a table."""
        columns = ["case", "method", "seed", *DISTANCES, *COSTS]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self.found.values())


def _floor(entries: list[dict[str, Any]], name: str) -> float:
    """What chance alone makes of a distance: its mean, or where that is 0 its size."""
    if name in UNBIASED:
        return math.sqrt(sum(entry[name] ** 2 for entry in entries) / len(entries))
    return _mean(entries, name).value


def _mean(entries: Iterable[dict[str, Any]], name: str) -> Estimate:
    return mean(torch.tensor([entry[name] for entry in entries], dtype=torch.float64))
