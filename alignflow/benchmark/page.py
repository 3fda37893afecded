"""The page of a benchmark: quality against cost, case by case, and the tables."""

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from .convergence import Curve, curves
from .results import FLOOR, Row
from .tables import SLOPES_HEAD, SUMMARY_HEAD, cells, floor_line, slopes, summary, tables

__all__ = ["write_page"]


def write_page(path: Path, title: str, about: str, rows: Sequence[Row]) -> Path:
    """Write one HTML file that stands alone.

    Args:
        path: Of the page.
        title: Of the page.
        about: A sentence or more.
        rows: What was measured.
    """
    environment = Environment(loader=PackageLoader("alignflow.benchmark", "."), autoescape=True)
    cases = [
        {
            "title": case,
            "floor": floor_line(group),
            "plot": _quality_against_cost(group),
            "cells": cells(group),
        }
        for case, group in tables(rows)
    ]
    found: dict[str, dict[str, Curve]] = {}
    for (case, method), curve in curves(rows).items():
        found.setdefault(case, {})[method] = curve
    plots = [{"title": case, "plot": _error_against_samples(of)} for case, of in found.items()]
    text = environment.get_template("page.html.jinja").render(
        title=title,
        about=about,
        cases=cases,
        summary_head=SUMMARY_HEAD,
        summary=summary(rows),
        plots=plots,
        slopes_head=SLOPES_HEAD,
        slopes=slopes(rows),
    )
    path.write_text(text)
    return path


def _quality_against_cost(rows: list[Row]) -> str:
    """Distance over the floor against the cost of a sample."""
    figure, axis = _figure()
    for row in rows:
        if math.isnan(row.cost):
            continue
        ratio, cost = row.ratio("sliced_w2"), max(row.cost, 1.0)
        axis.errorbar(cost, ratio.value, yerr=ratio.standard_error, fmt="o", markersize=4)
        axis.annotate(row.method, (cost, ratio.value), xytext=(4, 4), textcoords="offset points",
                      fontsize=7)  # fmt: skip
    axis.axhline(1.0, color="black", linestyle="--", linewidth=1)
    axis.annotate("floor: two exact samples", (0.01, 1.0), xycoords=("axes fraction", "data"),
                  xytext=(0, 3), textcoords="offset points", fontsize=7)  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel="forwards a sample (a gradient counts as two)",
             ylabel="sliced W2 / floor")  # fmt: skip
    return _encoded(figure)


def _error_against_samples(found: dict[str, Curve]) -> str:
    """Distance against the number of samples, which for particles is the number of these."""
    figure, axis = _figure()
    for method, curve in found.items():
        values = [row.values["sliced_w2"] for row in curve]
        style = {"color": "black", "linestyle": "--"} if method == FLOOR else {}
        axis.errorbar([row.samples for row in curve], [v.value for v in values],
                      yerr=[v.standard_error for v in values], marker="o", markersize=4,
                      label=method, **style)  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel="samples", ylabel="sliced W2")
    axis.legend(fontsize=7)
    return _encoded(figure)


def _figure() -> tuple[Any, Any]:
    # without pyplot: no window system, no state shared with the caller's own figures
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    return figure, figure.subplots()


def _encoded(figure: Any) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    return base64.b64encode(stream.getvalue()).decode()
