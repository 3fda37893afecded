"""Shipped lists of strings with weights."""

import csv
from pathlib import Path

__all__ = ["weighted_list"]


def weighted_list(name: str) -> tuple[list[str], list[float]]:
    """The strings of a shipped file and their weights."""
    with (Path(__file__).parent / "shipped" / name).open(newline="", encoding="utf-8") as file:
        strings, weights = zip(*csv.reader(file), strict=True)
    return list(strings), list(map(float, weights))
