"""What a finished run tells on the terminal: its results, and what to do with them."""

import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from alignflow.checkpoint import load_folder
from alignflow.metrics.names import label
from alignflow.results import EvaluationResult, ModelResult, TiltResult

from .folder import RunFolder

__all__ = ["print_summary"]

WIDTH = 80


def print_summary(folder: Path) -> None:
    """Print the table of a run's results, if it has any, and the next commands."""
    run_folder = RunFolder(folder)
    result = run_folder.result("evaluate")
    if isinstance(result, EvaluationResult):
        # soft, so that a file or a pipe is never cut to a width that it does not have
        out = Console()
        out.print(_table(result), soft_wrap=not out.is_terminal)
        for model in result.models:
            if model.tilt_check is not None:
                verdict = f"{model.name}: {model.tilt_check.verdict}"
                print(textwrap.fill(verdict, WIDTH, subsequent_indent="  "))
    page = folder / "report.html"
    print(f"report: {page}" if page.exists() else f"done: {folder}")
    for line in _next_commands(run_folder):
        print(line)


def _table(result: EvaluationResult) -> Table:
    """Every model beside the exact tilt: reward, the label that the tilt changes most, and cost."""
    rows: list[ModelResult | TiltResult] = [*result.models]
    rows += [result.tilt] if result.tilt else []
    changed = _most_changed(result.models[0], result.tilt or result.models[-1])
    table = Table(box=None, title=f"reward: {result.reward_name}", title_justify="left")
    table.add_column("model")
    for name in ("reward", *([changed] if changed else []), label("nfe"), "s/sample"):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [str(row.mean_reward)]
        cells += [f"{row.rates[changed].value:.1%}"] if changed else []
        cost = row.cost if isinstance(row, ModelResult) else {}
        cells += [f"{cost['nfe']:g}", f"{cost['seconds']:.2g}"] if cost else ["", ""]
        table.add_row(row.name, *cells)
    return table


def _most_changed(base: ModelResult, aligned: ModelResult | TiltResult) -> str | None:
    """The label whose rate alignment changes most."""
    common = sorted(set(base.rates) & set(aligned.rates))
    moved = {name: abs(aligned.rates[name].value - base.rates[name].value) for name in common}
    return max(moved, key=moved.__getitem__) if moved else None


def _next_commands(run_folder: RunFolder) -> Iterator[str]:
    stages = run_folder.path / "stages"
    models = [stages / stage / "model" for stage in ("pretrain", "learn_posterior", "finetune")]
    for model in [model for model in models if model.is_dir()][-1:]:
        registered = load_folder(model)[1].get("network") is not None
        yield f"load: alignflow.load({str(model)!r}{'' if registered else ', module=MyNet()'})"
        if registered:
            yield f"sample: alignflow sample {shlex.quote(str(model))}"
