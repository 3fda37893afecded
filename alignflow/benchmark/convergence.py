"""How fast errors fall with the number of samples: the order of convergence."""

import math
from collections.abc import Iterable

from alignflow.metrics import Estimate

from .results import Row

__all__ = ["Curve", "curves", "slope"]

Curve = list[Row]
"""One method on one case, by growing numbers of samples."""


def curves(rows: Iterable[Row]) -> dict[tuple[str, str], Curve]:
    """Curves of more than one point, by case and method."""
    found: dict[tuple[str, str], Curve] = {}
    for row in rows:
        found.setdefault((row.case, row.method), []).append(row)
    return {
        key: sorted(curve, key=lambda row: row.samples)
        for key, curve in found.items()
        if len(curve) > 1
    }


def slope(curve: Curve) -> Estimate:
    """Slope of log distance against log samples, by least squares; -1/2 is the Monte Carlo rate."""
    x = [math.log(row.samples) for row in curve]
    center = sum(x) / len(x)
    scatter = sum((value - center) ** 2 for value in x)
    coefficients = [(value - center) / scatter for value in x]
    values = [row.values[row.distance] for row in curve]
    pairs = list(zip(coefficients, values, strict=True))
    rise = sum(c * math.log(v.value) for c, v in pairs)
    variance = sum((c * v.standard_error / v.value) ** 2 for c, v in pairs)
    return Estimate(rise, math.sqrt(variance))
