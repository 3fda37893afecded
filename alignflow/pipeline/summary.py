"""What a finished run tells on the terminal: its results, and what to do with them."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from alignflow.checkpoint import load_folder

from .folder import RunFolder

__all__ = ["print_summary"]


def print_summary(folder: Path) -> None:
    """Print the table of a run's results, if it has any, and the next commands."""
    kept = RunFolder(folder)
    result = kept.result("evaluate")
    if result is not None:
        # soft, so that a file or a pipe is never cut to a width that it does not have
        out = Console()
        out.print(_table(result), soft_wrap=not out.is_terminal)
    page = folder / "report.html"
    print(f"report: {page}" if page.exists() else f"done: {folder}")
    for line in _next_commands(kept):
        print(line)


def _table(result: dict[str, Any]) -> Table:
    """Every model beside the exact tilt: reward, the label that the tilt changes most, and cost."""
    models, tilt = result["models"], result.get("tilt")
    label = _telling_label(models[0], tilt or models[-1])
    table = Table(box=None, title=f"reward: {result['reward_name']}", title_justify="left")
    table.add_column("model")
    for name in ("reward", *([label] if label else []), "NFE", "s/sample"):
        table.add_column(name, justify="right")
    for row in [*models, *([{"cost": {}} | tilt] if tilt else [])]:
        cost = row["cost"]
        cells = [_reward(*row["mean_reward"])]
        cells += [f"{row['rates'][label][0]:.1%}"] if label else []
        cells += [f"{cost['nfe']:g}", f"{cost['seconds']:.2g}"] if cost else ["", ""]
        table.add_row(row["name"], *cells)
    return table


def _telling_label(base: dict[str, Any], aligned: dict[str, Any]) -> str | None:
    common = set(base["rates"]) & set(aligned["rates"])
    moved = {label: abs(aligned["rates"][label][0] - base["rates"][label][0]) for label in common}
    return max(sorted(moved), key=moved.__getitem__) if moved else None


def _reward(value: float, error: float) -> str:
    return f"{value:.4g} ± {error:.2g}"


def _next_commands(kept: RunFolder) -> Iterator[str]:
    stages = kept.path / "stages"
    models = [stages / stage / "model" for stage in ("pretrain", "learn_posterior", "finetune")]
    for model in [model for model in models if model.is_dir()][-1:]:
        own = load_folder(model)[1].get("network") is None
        yield f"load: alignflow.load({str(model)!r}{', module=MyNet()' if own else ''})"
        if not own:
            yield f"sample: alignflow sample {shlex.quote(str(model))} -o grid.png"
