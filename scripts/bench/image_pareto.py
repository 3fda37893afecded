"""The image suite as a picture: errors against forwards, with the Pareto front of each strength.

alignflow benchmark suite=image
python scripts/bench/image_pareto.py [--folder outputs/benchmark_image]
"""

import argparse
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from page import DOCS

from alignflow.benchmark import FLOOR, Results, Row
from alignflow.benchmark.tables import tables
from alignflow.report.drawing import INK, MODELS, frame, log_scale

DASHES = (0, (3, 2))


def front(points: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Points to which none is both cheaper and better, by growing cost."""
    found: list[tuple[float, float, str]] = []
    for point in sorted(points):
        if not found or point[1] < found[-1][1]:
            found.append(point)
    return found


def rate_error(row: Row) -> tuple[float, float]:
    """Size of the bias of the mean rate, in points, and its standard error."""
    bias = row.values["rate_bias"]
    return 100 * abs(bias.value), 100 * bias.standard_error


def w2(row: Row) -> tuple[float, float]:
    ratio = row.ratio("sliced_w2")
    return ratio.value, ratio.standard_error


def panel(axes: Any, rows: list[Row], measure: Any, least: float) -> None:
    measured = [row for row in rows if row.method != FLOOR]
    points = []
    for row in measured:
        value, error = measure(row)
        points.append((row.cost, max(value, least), row.method))
        axes.errorbar(row.cost, max(value, least), yerr=error, fmt="o", markersize=3.5,
                      color=MODELS[1], elinewidth=0.6)  # fmt: skip
        axes.annotate(row.method, (row.cost, max(value, least)), xytext=(4, 3), fontsize=6,
                      textcoords="offset points")  # fmt: skip
    best = front(points)
    axes.plot([x for x, _, _ in best], [y for _, y, _ in best], color=MODELS[2], linewidth=1)
    log_scale(axes, "x", "y")
    axes.grid()


def drawn(figure: Figure, rows: list[Row]) -> None:
    groups = sorted(tables(rows), key=lambda group: group[0].rpartition("strength ")[2])
    axes = figure.subplots(2, len(groups), squeeze=False)
    for column, (title, group) in enumerate(groups):
        top, bottom = axes[0][column], axes[1][column]
        panel(top, group, rate_error, 0.3)
        top.axhline(3, color=INK, linestyle=DASHES, linewidth=0.8)
        panel(bottom, group, w2, 0.1)
        bottom.axhline(1, color=INK, linestyle=DASHES, linewidth=0.8)
        top.set_title(title, fontsize=8)
        bottom.set_xlabel("forwards a sample (a gradient counts as two)")
    axes[0][0].set_ylabel("error of the rate, points")
    axes[1][0].set_ylabel("sliced W2 / floor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("outputs/benchmark_image"))
    options = parser.parse_args()
    rows = Results(options.folder / "results.jsonl").rows()
    with frame(11.0, 7.0) as figure:
        drawn(figure, rows)
        figure.savefig(DOCS / "image.png", dpi=130)


if __name__ == "__main__":
    main()
