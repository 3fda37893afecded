"""Hydra's callbacks: they note which folders it makes, and remove those in which nothing ran."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

__all__ = ["Hooks", "made", "take_away"]

# what is written beside the runs of a sweep
BESIDE = ("multirun.yaml", "command.txt", "targets.json")

# folders that were absent before, the deepest first
made: list[Path] = []


class Hooks(Callback):
    """Notes which folders Hydra is about to make, so that a refused run can take them away."""

    def on_run_start(self, config: Any, **kwargs: Any) -> None:
        _note(config, "hydra.run.dir")

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        _note(config, "hydra.sweep.dir")


def take_away(made: list[Path]) -> None:
    """Remove folders that Hydra made, where no run has begun in them.

    Args:
        made: Those that were absent before, the deepest first.
    """
    if not made or not made[0].is_dir():
        return
    runs = [path for path in made[0].iterdir() if path.is_dir()]
    for path in runs:
        _remove_empty(path)
    if not any(path.is_dir() for path in runs):
        for name in BESIDE if (made[0] / BESIDE[0]).exists() else ():
            (made[0] / name).unlink(missing_ok=True)
    for path in made:
        _remove_empty(path)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _note(config: Any, key: str) -> None:
    # a name that cannot be made out is told by Hydra, which needs it next
    folder = OmegaConf.select(config, key, throw_on_resolution_failure=False)
    if folder is not None:
        path = Path(folder).absolute()
        made[:] = [path for path in (path, *path.parents) if not path.exists()]
