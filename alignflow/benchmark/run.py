"""A suite from its config to its tables and page; a run that was cut goes on where it was."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from alignflow.pipeline.display import progress_bar

from .measure import Truth, measure
from .page import write_page
from .results import FLOOR, Key, Results
from .suite import build_suite
from .tables import markdown, rich_tables

__all__ = ["run_suite"]


def run_suite(config: DictConfig, folder: Path, command: str = "") -> Path:
    """Measure every method of a suite on every case and seed, and write what was found.

    Args:
        config: Of `configs/benchmark.yaml`.
        folder: For results.jsonl, results.csv, results.md and report.html; measurements found
            there are kept.
        command: That was typed, for the page.

    Returns:
        The page.

    Raises:
        ValueError: If measurements of another config are in the folder.
    """
    suite = build_suite(config.suite)
    folder.mkdir(parents=True, exist_ok=True)
    _check_same(config, folder / "config.yaml")
    results = Results(folder / "results.jsonl")
    total = (len(suite.methods) + 1) * suite.seeds * len(suite.cases)
    with progress_bar(suite.name) as show:
        done = 0
        for case in suite.cases:
            truth = None
            for seed in range(suite.seeds):
                for name in (FLOOR, *suite.methods):
                    key = Key(case.title, case.samples, name, seed)
                    if key not in results:
                        truth = truth or Truth(case)
                        options = suite.methods.get(name)
                        results.add(key, measure(truth, options, seed))
                    done += 1
                    show(done, total, {})
    rows = results.rows()
    for table in rich_tables(rows):
        Console().print(table)
    results.write_csv(folder / "results.csv")
    about = f"Written by `{command}`. {suite.seeds} seeds; ± is one standard error."
    about = f"{about}\n\n{suite.about}" if suite.about else about
    text = f"# {suite.name}\n\n{about}\n\n{markdown(rows)}\n"
    (folder / "results.md").write_text(text)
    return write_page(folder / "report.html", f"Benchmark: {suite.name}", about, rows)


def _check_same(config: DictConfig, path: Path) -> None:
    text = OmegaConf.to_yaml(config)
    if path.exists() and path.read_text() != text:
        raise ValueError(
            f"{path.parent} holds measurements of another config: "
            "give another folder, or delete that one"
        )
    path.write_text(text)
