"""The page of a sweep: what each strength bought, and at what distance from the base."""

from dataclasses import dataclass
from pathlib import Path

from alignflow.metrics import Estimate
from alignflow.metrics.names import label
from alignflow.results import ModelResult, ReportError

from . import figures, words
from .drawing import MODELS, Plot, plot
from .run_folder import RESULT, Run, read_run
from .template import template, write

__all__ = ["build_sweep_report", "is_sweep"]


@dataclass(frozen=True)
class Row:
    """One aligned model of one run."""

    run: Run
    model: ModelResult


def is_sweep(folder: str | Path) -> bool:
    """Whether a folder holds several runs and is none itself."""
    return not (Path(folder) / RESULT).exists() and bool(_runs(Path(folder)))


def build_sweep_report(folder: str | Path) -> Path:
    """Write `report.html` of a sweep into its folder: reward against distance over strengths.

    Args:
        folder: Of a `--multirun`; its runs are read, with the results of those that have one.

    Raises:
        ReportError: If the runs have different rewards, or a file does not hold what it should.
    """
    folder = Path(folder)
    runs = [read_run(path) for path in _runs(folder)]
    if len({run.reward_name for run in runs}) > 1:
        names = words.listed(sorted({run.reward_name for run in runs}))
        raise ReportError(f"{folder}: runs of one sweep must share their reward, got {names}")
    rows = [Row(run, model) for run in runs for model in run.aligned]
    rows.sort(key=lambda row: (row.model.name, row.run.strength))
    names = list(dict.fromkeys(row.model.name for row in rows))
    html = template("sweep.html.jinja").render(
        name=folder.resolve().name,
        reward=runs[0].reward_name,
        rows=rows,
        base=runs[0].base,
        # the first color is the base's
        colors={name: 1 + i % (len(MODELS) - 1) for i, name in enumerate(names)},
        plots=_plots(runs, rows, names),
        held_out=list(dict.fromkeys(name for row in rows for name in row.model.held_out)),
        distances=list(dict.fromkeys(name for row in rows for name in row.model.distance_to_base)),
    )
    return write(folder / "report.html", html)


def _runs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if (path / RESULT).exists())


def _plots(runs: list[Run], rows: list[Row], names: list[str]) -> list[Plot]:
    base = runs[0].base.mean_reward.value
    tilts = sorted((run.strength, run.tilt.mean_reward.value) for run in runs if run.tilt)
    distances = dict.fromkeys(key for row in rows for key in row.model.distance_to_base)

    def lines(x) -> dict[str, list[tuple[Estimate, Estimate, str]]]:
        return {
            name: [
                (x(row), row.model.mean_reward, f"{row.run.strength:g}")
                for row in rows
                if row.model.name == name
            ]
            for name in names
        }

    gray = "The gray line is the base's reward, numbers are strengths."
    found = [
        plot(
            f"Reward against {label(key)}",
            f"Up is better aligned, left is closer to the base. {gray}",
            figures.series(
                lines(lambda row, key=key: row.model.distance_to_base[key]),
                [],
                base,
                (f"distance to the base ({label(key)})", "mean reward"),
            ),
        )
        for key in distances
    ]
    strength = figures.series(
        lines(lambda row: Estimate(row.run.strength, 0.0)), tilts, base, ("strength", "mean reward")
    )
    found.append(
        plot("Reward against strength", f"The dashed line is the exact tilt's. {gray}", strength)
    )
    return found
