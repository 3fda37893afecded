"""A command whose config Hydra composes: one run, or each of the runs of a sweep."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alignflow.interrupts import note_resume
from alignflow.overrides import config_flags, overrides_first

__all__ = ["by_hydra"]

CONFIGS = "alignflow.configs"
FULL_ERROR = "HYDRA_FULL_ERROR"


def by_hydra(
    command: str,
    config_name: str,
    words: Sequence[str],
    act: Callable[[Any, Path, str], None],
    tell: Callable[[Exception], int],
    resumed: bool = False,
) -> int:
    """Compose a config from words and act on it; of a sweep, on each of its configs.

    A run that fails does not keep the others of its sweep from being tried. What is refused leaves
    no folder.

    Args:
        command: Its name.
        config_name: Of the primary config.
        words: Overrides and flags of Hydra's.
        act: A call of (config, folder, command line that reproduces it).
        tell: Prints an error; the exit status.
        resumed: Whether a sweep began before, whose record of what it may import stands.

    Returns:
        The exit status.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from alignflow import hooks

    statuses: list[int] = []
    sweep: Path | None = None
    given = os.environ.get(FULL_ERROR)
    hooks.made.clear()

    @hydra.main(version_base="1.3", config_path=f"pkg://{CONFIGS}", config_name=config_name)
    def job(config) -> None:
        nonlocal sweep
        settings = HydraConfig.get()
        folder = Path(os.path.relpath(settings.runtime.output_dir))
        typed = shlex.join(["alignflow", command, *config_flags(words), *settings.overrides.task])
        with _environment(FULL_ERROR, given):
            try:
                if settings.mode is RunMode.MULTIRUN:
                    sweep = Path(settings.sweep.dir)
                if sweep is not None and not resumed:
                    from alignflow import sweeps  # imports torch

                    sweeps.record(sweep, shlex.join(["alignflow", command, *words]), config)
                act(config, folder, typed)
            except Exception as error:
                statuses.append(tell(error))

    def start() -> None:
        try:
            # so that Hydra hands its errors on, and what is told of them is ours
            with _environment(FULL_ERROR, "1"):
                job()
        except Exception as error:
            statuses.append(tell(error))
        finally:
            hooks.take_away(hooks.made)
        if sweep is not None and sweep.is_dir():
            from alignflow import sweeps

            sweeps.report(sweep)

    sys.argv = [f"alignflow {command}", *overrides_first(words)]
    try:
        start()
    except KeyboardInterrupt as stop:
        if sweep is not None:
            note_resume(stop, sweep, "the sweep")
        raise
    return max(statuses, default=0)


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    before = os.environ.get(name)
    _set(name, value)
    try:
        yield
    finally:
        _set(name, before)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
