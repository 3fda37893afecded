"""A suite from its config to its tables and page; an interrupted run is continued."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from alignflow import checks
from alignflow.pipeline import ConfigError
from alignflow.pipeline.display import progress_bar

from .measure import Truth, measure
from .page import write_page
from .results import FLOOR, Key, Results, Row
from .suite import Case, Suite, build_suite
from .tables import markdown, rich_tables
from .tuning import SAMPLED, measure_tuned, sampled_name

__all__ = ["run_suite"]

KEYS = {"suite", "only", "folder"}


def run_suite(config: DictConfig, folder: Path, command: str = "") -> Path:
    """Measure every method of a suite on every case and seed, and write what was found.

    Args:
        config: Of `configs/benchmark.yaml`.
        folder: For results.jsonl, results.csv, results.md and report.html; measurements found
            there stay, so that a suite can be measured in parts.
        command: That was typed, for the page.

    Returns:
        The page.

    Raises:
        ValueError: If measurements of another config are in the folder.
    """
    _check_keys(config)
    suite = build_suite(config.suite, config.only)
    folder.mkdir(parents=True, exist_ok=True)
    _check_same(config, folder / "config.yaml")
    results = Results(folder / "results.jsonl")
    work = list(_work(suite))
    with progress_bar(suite.name) as show:
        truth = None
        for done, (case, seed, name) in enumerate(work, start=1):
            if not _measured(results, suite, case, seed, name):
                if truth is None or truth.case is not case:
                    truth = Truth(case)
                _measure(results, suite, truth, seed, name)
            show(done, len(work), {})
    rows = _in_order(results.rows(), config.suite)
    for table in rich_tables(rows):
        Console().print(table)
    results.write_csv(folder / "results.csv")
    about = f"Written by `{command}`. {suite.seeds} seeds; ± is one standard error."
    about = f"{about}\n\n{suite.about}" if suite.about else about
    text = f"# {suite.name}\n\n{about}\n\n{markdown(rows)}\n"
    (folder / "results.md").write_text(text)
    return write_page(folder / "report.html", f"Benchmark: {suite.name}", about, rows)


def _check_keys(config: DictConfig) -> None:
    if unknown := sorted(set(map(str, config)) - KEYS):
        hint = checks.did_you_mean(unknown[0], KEYS)
        raise ConfigError(
            f"unknown config key {', '.join(unknown)}; known: {', '.join(sorted(KEYS))}{hint}"
        )


def _work(suite: Suite) -> Iterator[tuple[Case, int, str]]:
    for case in suite.cases:
        for seed in range(max(suite.seeds, suite.floors)):
            methods = (*suite.methods, *suite.tuners) if seed < suite.seeds else ()
            for name in (FLOOR, *filter(case.measures, methods)):
                yield case, seed, name


def _in_order(rows: list[Row], config: DictConfig) -> list[Row]:
    """Table by table, methods as the suite lists them, whatever part was measured first."""
    tables = list(dict.fromkeys(row.title for row in rows))
    tuners = (sampled_name(name, k) for name in config.get("tuners", {}) for k in SAMPLED)
    methods = [FLOOR, *map(str, config.get("methods", {})), *tuners]
    return sorted(rows, key=lambda row: (tables.index(row.title), methods.index(row.method)))


def _names(suite: Suite, name: str) -> list[str]:
    """Of the rows that a method gives: several for a tuner."""
    if name in suite.tuners:
        return [sampled_name(name, steps) for steps in SAMPLED]
    return [name]


def _measured(results: Results, suite: Suite, case: Case, seed: int, name: str) -> bool:
    keys = (Key(case.title, case.samples, row, seed) for row in _names(suite, name))
    return all(key in results for key in keys)


def _measure(results: Results, suite: Suite, truth: Truth, seed: int, name: str) -> None:
    def add(row: str, measured: dict[str, float]) -> None:
        results.add(Key(truth.case.title, truth.case.samples, row, seed), measured)

    if name in suite.tuners:
        for steps, measured in measure_tuned(truth, suite.tuners[name], seed):
            add(sampled_name(name, steps), measured)
    else:
        add(name, measure(truth, suite.methods.get(name), seed))


def _check_same(config: DictConfig, path: Path) -> None:
    settings: Any = OmegaConf.to_container(config)
    del settings["only"]  # a part of a suite is measured as all of it is
    text = OmegaConf.to_yaml(settings)
    if path.exists() and path.read_text() != text:
        raise ValueError(
            f"{path.parent} holds measurements of another config: "
            "give another folder, or delete that one"
        )
    path.write_text(text)
