"""The folder of a sweep: what began it, so that it can be resumed, and the report of its runs."""

import shlex
from pathlib import Path
from typing import Any

from alignflow.checkpoint.writing import write_atomically
from alignflow.pipeline.folder import RunFolder, read_json, write_json
from alignflow.pipeline.settings import ConfigError
from alignflow.pipeline.targets import check_targets, shipped_targets, targets_of

__all__ = ["check_trusted", "is_sweep_folder", "record", "report", "words_of"]


# where runs and sweeps lie: the sweep is given its place anew, and its runs lie in it
PLACES = ("hydra.run.dir=", "hydra.sweep.dir=")


def record(folder: Path, command: str, config: Any) -> None:
    """Record the command of a sweep, and what each of its configs would import."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "command.txt").exists():
        write_atomically(folder / "command.txt", command + "\n")
    known = _recorded(folder) | set(targets_of(config)) | _swept(shlex.split(command))
    write_json(folder / "targets.json", sorted(known))


def is_sweep_folder(folder: str | Path) -> bool:
    """Whether a folder holds a sweep that recorded its command."""
    return (Path(folder) / "multirun.yaml").exists() and (Path(folder) / "command.txt").exists()


def words_of(folder: str | Path, trust_config: bool = False) -> list[str]:
    """The words of the command that began a sweep, to continue it in its folder.

    Raises:
        ConfigError: If the command sets up Hydra itself, or takes configs from elsewhere, which
            can name any code, and is not trusted.
    """
    words = shlex.split((Path(folder) / "command.txt").read_text())
    if words[:2] != ["alignflow", "run"]:
        raise ConfigError(f"{folder}/command.txt is no command of a sweep of runs")
    words = [word for word in words[2:] if not word.lstrip("+").startswith(PLACES)]
    outside = [w for w in words if w.lstrip("+~").startswith(("hydra", "-c", "--config"))]
    if outside and not trust_config:
        raise ConfigError(
            f"{folder}/command.txt sets {' '.join(outside)}, which can name any code\nIf you trust "
            "it, say so: --trust-config"
        )
    return [*words, f"hydra.sweep.dir={_quoted(folder)}"]


def check_trusted(config: Any, folder: Path, trust_config: bool = False) -> None:
    """Refuse a run of a resumed sweep whose config names code that neither had recorded.

    Raises:
        ConfigError: Naming the code.
    """
    if trust_config:
        return
    run_folder = RunFolder(folder)
    known = (
        run_folder.targets() if run_folder.is_run else _recorded(folder.parent) | shipped_targets()
    )
    check_targets(config, known, f"{folder}: its config")


def report(folder: Path) -> None:
    """Write the page of a sweep and say where it is, if its runs can be compared."""
    from alignflow.report import ReportError, build_sweep_report, is_sweep

    # what killed writes of `record` have left
    for name in ("command.txt", "targets.json"):
        for path in folder.glob(f".{name}.*.new"):
            path.unlink()
    if not is_sweep(folder):
        print(f"done: {folder}")
        return
    try:
        print(f"report: {build_sweep_report(folder)}")
    except ReportError as error:
        print(f"done: {folder}, without a report of the sweep: {error}")


def _recorded(folder: Path) -> set[str]:
    path = folder / "targets.json"
    return set(read_json(path)) if path.exists() else set()


def _swept(words: list[str]) -> set[str]:
    """Targets that the words name, those of runs that have not begun among them."""
    values = [
        value for key, _, value in (word.partition("=") for word in words) if "_target_" in key
    ]
    return {name for value in values for name in value.split(",")}


def _quoted(folder: str | Path) -> str:
    # quotes of Hydra's grammar, so that a folder may have a space or a comma in its name
    escaped = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
