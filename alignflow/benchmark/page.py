"""The page of a benchmark: quality against cost, case by case, and the tables."""

import base64
import io
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader

from .results import Row
from .tables import HEAD, cells

__all__ = ["write_page"]


def write_page(path: Path, title: str, command: str, rows: Iterable[Row]) -> Path:
    """Write one HTML file that stands alone.

    Args:
        path: Of the page.
        title: Of the page.
        command: That makes it anew.
        rows: What was measured.
    """
    environment = Environment(loader=PackageLoader("alignflow.benchmark", "."), autoescape=True)
    cases = [
        {"title": case, "plot": _plot(group), "rows": [cells(row) for row in group]}
        for case, group in ((c, list(g)) for c, g in groupby(rows, lambda row: row.case))
    ]
    template = environment.get_template("page.html.jinja")
    path.write_text(template.render(title=title, command=command, head=HEAD, cases=cases))
    return path


def _plot(rows: list[Row]) -> str:
    """Distance over the floor against the cost of a sample, as an inline SVG."""
    # without pyplot: no window system, no state shared with the caller's own figures
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    for row in rows:
        ratio, cost = row.ratio("sliced_w2"), max(row.cost, 1.0)
        axis.errorbar(cost, ratio.value, yerr=ratio.standard_error, fmt="o", markersize=4)
        axis.annotate(row.method, (cost, ratio.value), xytext=(4, 4), textcoords="offset points",
                      fontsize=7)  # fmt: skip
    axis.axhline(1.0, color="black", linestyle="--", linewidth=1)
    axis.annotate("floor: two exact samples", (0.01, 1.0), xycoords=("axes fraction", "data"),
                  xytext=(0, 3), textcoords="offset points", fontsize=7)  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel="forwards a sample (a gradient counts as two)",
             ylabel="sliced W2 / floor")  # fmt: skip
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    return base64.b64encode(stream.getvalue()).decode()
