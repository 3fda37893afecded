"""Figures of a run and of a sweep: data in, matplotlib Figure out."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from alignflow.metrics import Estimate
from alignflow.metrics.names import label as label_of
from alignflow.results import Histogram, ModelResult, TiltResult

from .drawing import BAND, INK, MODELS, MUTED, WIDTH, frame, log_scale
from .run_folder import Curve, Episodes
from .words import plain

__all__ = [
    "attribute_rates",
    "bars",
    "curve",
    "episodes",
    "points",
    "reference_histograms",
    "reward_histograms",
    "reward_vs_distance",
    "series",
]

MARKERS = "osDv^Pp"
THREADS = 80


def reward_histograms(models: list[ModelResult], tilt: TiltResult | None) -> Figure:
    """One row a model, in shared bins; its mean as a line, the exact tilt's mean through all."""
    edges = np.histogram_bin_edges(np.concatenate([m.rewards for m in models]), bins=32)
    with frame(WIDTH, 0.5 + 1.0 * len(models)) as figure:
        rows = figure.subplots(len(models), sharex=True, sharey=True, squeeze=False)[:, 0]
        for row, model, color in zip(rows, models, _colors(), strict=False):
            counts, _ = np.histogram(model.rewards, edges)
            percent = 100 * counts / len(model.rewards)
            row.stairs(percent, edges, fill=True, color=color, alpha=0.35)
            row.stairs(percent, edges, color=color, linewidth=1.0)
            row.axvline(model.mean_reward.value, color=color, linewidth=1.8)
            if tilt is not None:
                row.axvline(tilt.mean_reward.value, color=INK, linestyle=(0, (3, 2)), linewidth=1.2)
            row.grid(axis="y")
        rows[-1].set_xlabel("reward")
        figure.supylabel("% of samples", fontsize=8.5, color=MUTED)
    return figure


def reference_histograms(histogram: Histogram, reference: str, label: str) -> Figure:
    """One row a model, the reference's outline in each.

    Args:
        histogram: Fractions by model.
        reference: The name of the reference among them.
        label: Of the axis.
    """
    percent = {name: 100 * np.array(of) for name, of in histogram.fractions.items()}
    outline = percent.pop(reference)
    with frame(WIDTH, 0.5 + 1.0 * len(percent)) as figure:
        rows = figure.subplots(len(percent), sharex=True, sharey=True, squeeze=False)[:, 0]
        for row, of, color in zip(rows, percent.values(), _colors(), strict=False):
            row.stairs(of, histogram.edges, fill=True, color=color, alpha=0.35)
            row.stairs(of, histogram.edges, color=color, linewidth=1.0)
            row.stairs(outline, histogram.edges, color=INK, linestyle=(0, (3, 2)), linewidth=1.2)
            row.grid(axis="y")
        rows[-1].set_xlabel(label)
        figure.supylabel("%", fontsize=8.5, color=MUTED)
    return figure


def attribute_rates(
    models: list[ModelResult], tilt: TiltResult | None, targets: list[str]
) -> Figure:
    """Dots with 95% whiskers, one row an attribute, the reward's attributes on a band."""
    names = list(dict.fromkeys(name for model in models for name in model.rates))
    names.sort(key=lambda name: name not in targets)
    series = [
        (model.rates, color, marker)
        for model, color, marker in zip(models, _colors(), _markers(), strict=False)
    ]
    if tilt is not None:
        series.append((tilt.rates, INK, "d"))
    gap = 0.62 / len(series)
    with frame(WIDTH, 0.6 + (0.16 + 0.12 * len(series)) * len(names)) as figure:
        axes = figure.subplots()
        for row, name in enumerate(names):
            if name in targets:
                axes.axhspan(row - 0.5, row + 0.5, color=BAND, linewidth=0)
        for place, (rates, color, marker) in enumerate(series):
            shown = [(row, rates[name]) for row, name in enumerate(names) if name in rates]
            offset = (place - (len(series) - 1) / 2) * gap
            _whiskers(axes, shown, offset, color, marker)
        axes.set_yticks(range(len(names)), [plain(name) for name in names])
        for label, name in zip(axes.get_yticklabels(), names, strict=True):
            label.set(color=INK, fontweight="bold" if name in targets else "normal")
        axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="% of samples")
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
    return figure


def reward_vs_distance(models: list[ModelResult], tilt: TiltResult | None, distance: str) -> Figure:
    """Mean reward against one distance to the base, each with its standard error."""
    with frame(WIDTH, 3.1) as figure:
        axes = figure.subplots()
        for model, color, marker in zip(models, _colors(), _markers(), strict=False):
            x, y = model.distance_to_base.get(distance), model.mean_reward
            if x is None:  # the base, which most runs do not hold against itself
                axes.axhline(y.value, color=color, linewidth=1.2)
                continue
            axes.errorbar(
                x.value,
                y.value,
                y.standard_error,
                x.standard_error,
                color=color,
                marker=marker,
                markersize=6,
            )
        if tilt is not None:
            axes.axhline(tilt.mean_reward.value, color=INK, linestyle=(0, (3, 2)), linewidth=1.2)
        axes.set(xlabel=f"distance to the base ({label_of(distance)})", ylabel="mean reward")
        axes.set_xlim(left=min(0, axes.get_xlim()[0]))
        axes.grid()
    return figure


def series(
    lines: dict[str, list[tuple[Estimate, Estimate, str]]],
    exact: list[tuple[float, float]],
    level: float | None,
    labels: tuple[str, str],
) -> Figure:
    """Lines of points with standard errors both ways, each point with a word beside it.

    Args:
        lines: Points (x, y, word) of each, by name, in their order.
        exact: Points of a dashed line; none for none.
        level: Of a gray line across.
        labels: Of the axes.
    """
    with frame(WIDTH, 3.3) as figure:
        axes = figure.subplots()
        if level is not None:
            axes.axhline(level, color=MODELS[0], linewidth=1.2)
        for points, color, marker in zip(lines.values(), _colors(1), _markers(), strict=False):
            xs, ys, names = zip(*points, strict=True)
            x, y = [found.value for found in xs], [found.value for found in ys]
            dx, dy = ([found.standard_error for found in side] for side in (xs, ys))
            axes.errorbar(x, y, dy, dx, color=color, marker=marker, markersize=5, linewidth=1.2)
            for name, place in zip(names, zip(x, y, strict=True), strict=True):
                axes.annotate(name, place, xytext=(5, -9), fontsize=7, color=MUTED,
                              textcoords="offset points")  # fmt: skip
        if exact:
            axes.plot(*zip(*exact, strict=True), color=INK, linestyle=(0, (3, 2)), linewidth=1.2)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.grid()
    return figure


def bars(lengths: dict[str, float], label: str) -> Figure:
    """A horizontal bar of each name, its length beside it."""
    with frame(3.4, 0.6 + 0.3 * len(lengths)) as figure:
        axes = figure.subplots()
        drawn = axes.barh(list(lengths), list(lengths.values()), height=0.6, color=MODELS[1])
        axes.bar_label(drawn, fmt="{:.3g}", padding=3, color=MUTED)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel(label)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="x")
    return figure


def curve(points: Curve) -> Figure:
    """A metric against training steps; on a log scale if it spans more than a factor of 30.

    Fewer than three points are bars: a line through two says no more than these.
    """
    steps, values = points
    if len(steps) < 3:
        named = {f"step {step:,}": value for step, value in zip(steps, values, strict=True)}
        return bars(named, "")
    with frame(3.4, 2.1) as figure:
        axes = figure.subplots()
        axes.plot(steps, values, color=MODELS[1])
        if min(values) > 0 and max(values) > 30 * min(values):
            log_scale(axes, "y")
        axes.set_xlabel("step")
        axes.grid()
    return figure


def points(samples: Tensor, origins: Tensor, index: int, limits: tuple[float, ...]) -> Figure:
    """Samples in the plane as dots, with threads from where the base put the same noise.

    Args:
        samples: (n, 2).
        origins: The base's samples of the same noise, (n, 2).
        index: Of the model, for its color.
        limits: Left, right, bottom and top, the same for all models.
    """
    ends, starts = samples.double().numpy(), origins.double().numpy()
    with frame(3.4, 3.3) as figure:
        axes = figure.subplots()
        # thousands of dots are smaller as pixels
        axes.scatter(
            *ends.T, s=5, color=next(_colors(index)), alpha=0.45, linewidths=0, rasterized=True
        )
        for start, end in zip(starts[:THREADS], ends[:THREADS], strict=True):
            axes.plot(*zip(start, end, strict=True), color=INK, linewidth=0.5, alpha=0.6, zorder=3)
        axes.set(xlim=limits[:2], ylim=limits[2:], aspect="equal")
        axes.set(xlabel="first coordinate", ylabel="second coordinate")
        axes.grid()
    return figure


def episodes(shown: Episodes, steps: list[int], limits: tuple[float, ...]) -> Figure:
    """Points in the plane on their way from noise: a row a model, a column a time.

    Args:
        shown: States (n, T + 1, 2) by model.
        steps: Which of the times.
        limits: Left, right, bottom and top, the same for all.
    """
    width, height = 1.75 * len(steps), 1.75 * len(shown.states) + 0.3
    with frame(width, height) as figure:
        grid = figure.subplots(len(shown.states), len(steps), squeeze=False)
        for row, path, color in zip(grid, shown.states.values(), _colors(), strict=False):
            for axes, step in zip(row, steps, strict=True):
                axes.scatter(*path[:, step].double().numpy().T, s=6, color=color, linewidths=0)
                axes.set(xlim=limits[:2], ylim=limits[2:], aspect="equal", xticks=[], yticks=[])
        for axes, step in zip(grid[0], steps, strict=True):
            axes.set_title(f"time {shown.times[step]:.2g}", fontsize=8.5, color=MUTED)
    return figure


def _colors(start: int = 0) -> Iterator[str]:
    while True:
        yield MODELS[start % len(MODELS)]
        start += 1


def _markers() -> Iterator[str]:
    while True:
        yield from MARKERS


def _whiskers(axes: Axes, shown: list, offset: float, color: str, marker: str) -> None:
    rows = [row + offset for row, _ in shown]
    values = np.array([[r.value, r.low, r.high] for _, r in shown]).reshape(-1, 3) * 100
    axes.hlines(rows, values[:, 1], values[:, 2], color=color, linewidth=1.3)
    axes.plot(values[:, 0], rows, linestyle="", marker=marker, markersize=4.5, color=color)
