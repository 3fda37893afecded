"""The page of a benchmark: quality against cost, case by case, and the tables."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from alignflow.metrics.names import label
from alignflow.report.drawing import INK, MODELS, MUTED, frame, log_scale, plot
from alignflow.report.template import template, write

from .convergence import Curve, curves
from .results import FLOOR, Row
from .tables import cells, floor_line, slopes, slopes_head, summary, summary_head, tables

__all__ = ["write_page"]

WIDTH, HEIGHT = 6.0, 3.8  # inches
DASHES = (0, (3, 2))


def write_page(path: Path, title: str, about: str, rows: Sequence[Row]) -> Path:
    """Write one HTML file that stands alone.

    Args:
        path: Of the page.
        title: Of the page.
        about: A sentence or more.
        rows: What was measured.
    """
    cases = [
        {
            "title": case,
            "floor": floor_line(group),
            "plot": plot(
                "Quality against cost",
                "Down is nearer to the exact tilt, left is cheaper.",
                _quality_against_cost(group),
                f"Quality against cost: {case}",
            ),
            "cells": cells(group),
        }
        for case, group in tables(rows)
    ]
    found: dict[str, dict[str, Curve]] = {}
    for (case, method), curve in curves(rows).items():
        found.setdefault(case, {})[method] = curve
    html = template("page.html.jinja", "alignflow.benchmark").render(
        title=title,
        about=about,
        cases=cases,
        summary_head=summary_head(rows),
        summary=summary(rows),
        convergence=[
            plot(case, "", _error_against_samples(of), f"Error against samples: {case}")
            for case, of in found.items()
        ],
        slopes_head=slopes_head(rows),
        slopes=slopes(rows),
    )
    return write(path, html)


def _quality_against_cost(rows: list[Row]) -> Figure:
    """Distance over the floor against the cost of a sample."""
    with frame(WIDTH, HEIGHT) as figure:
        axes = figure.subplots()
        for row in rows:
            if math.isnan(row.cost):
                continue
            ratio, cost = row.ratio(row.distance), max(row.cost, 1.0)
            axes.errorbar(cost, ratio.value, yerr=ratio.standard_error, fmt="o", markersize=4,
                          color=MODELS[1])  # fmt: skip
            axes.annotate(row.method, (cost, ratio.value), xytext=(5, 3), fontsize=7.5,
                          textcoords="offset points")  # fmt: skip
        axes.axhline(1.0, color=INK, linestyle=DASHES, linewidth=1.2)
        axes.annotate("floor: exact samples", (0.01, 1.0), xytext=(0, 3), fontsize=7.5,
                      xycoords=("axes fraction", "data"), textcoords="offset points",
                      color=MUTED)  # fmt: skip
        log_scale(axes, "x", "y")
        axes.set(
            xlabel="forwards a sample (a gradient counts as two)",
            ylabel=f"{label(rows[0].distance)} / floor",
        )
        axes.grid()
    return figure


def _error_against_samples(found: dict[str, Curve]) -> Figure:
    """Distance against the number of samples (for particle methods, of particles)."""
    with frame() as figure:
        axes = figure.subplots()
        methods = [method for method in found if method != FLOOR]
        for method, curve in found.items():
            values = [row.values[row.distance] for row in curve]
            style: dict[str, Any] = {"color": INK, "linestyle": DASHES}
            if method != FLOOR:
                style = {"color": MODELS[1 + methods.index(method) % (len(MODELS) - 1)]}
            axes.errorbar([row.samples for row in curve], [v.value for v in values],
                          yerr=[v.standard_error for v in values], marker="o", markersize=4,
                          label=method, **style)  # fmt: skip
        log_scale(axes, "x", "y")
        rows = [row for curve in found.values() for row in curve]
        axes.set(xlabel="samples", ylabel=label(rows[0].distance))
        figure.legend(loc="outside right upper", frameon=False)
        axes.grid()
    return figure
