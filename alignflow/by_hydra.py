"""A command whose config Hydra composes: one run, or each of the runs of a sweep."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
        act: A callable `(config, folder, command line that reproduces it)`.
        tell: Prints an error; the exit status.
        resumed: Whether a sweep began before, whose record of what it may import stands.

    Returns:
        The exit status.
    """
    from alignflow import hooks

    jobs = _Jobs(command, words, act, tell, resumed, os.environ.get(FULL_ERROR))
    hooks.made.clear()
    sys.argv = [f"alignflow {command}", *overrides_first(words)]
    try:
        try:
            jobs.start(config_name)
        finally:
            hooks.take_away(hooks.made)
        jobs.report()
    except KeyboardInterrupt as stop:
        if jobs.sweep is not None:
            note_resume(stop, jobs.sweep, "the sweep")
        raise
    return max(jobs.statuses, default=0)


@dataclass
class _Jobs:
    """The jobs of one command line and their outcomes; see `by_hydra`.

    Args:
        full_error: What the user set of Hydra's variable of this name.
    """

    command: str
    words: Sequence[str]
    act: Callable[[Any, Path, str], None]
    tell: Callable[[Exception], int]
    resumed: bool
    full_error: str | None
    statuses: list[int] = field(default_factory=list)
    sweep: Path | None = None

    def start(self, config_name: str) -> None:
        """Let Hydra compose the configs and run each."""
        import hydra

        # the nested function is what Hydra asks for: its one parameter is the config
        @hydra.main(version_base="1.3", config_path=f"pkg://{CONFIGS}", config_name=config_name)
        def job(config: Any) -> None:
            with _environment(FULL_ERROR, self.full_error):
                self.run(config)

        try:
            # so that Hydra raises its errors, and the message is ours
            with _environment(FULL_ERROR, "1"):
                job()
        except Exception as error:
            self.statuses.append(self.tell(error))

    def run(self, config: Any) -> None:
        """Act on one config, in its folder; an error is told."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        settings = HydraConfig.get()
        folder = Path(os.path.relpath(settings.runtime.output_dir))
        flags = config_flags(self.words)
        typed = shlex.join(["alignflow", self.command, *flags, *settings.overrides.task])
        try:
            if settings.mode is RunMode.MULTIRUN:
                self.sweep = Path(settings.sweep.dir)
                self.record(self.sweep, config)
            self.act(config, folder, typed)
        except Exception as error:
            self.statuses.append(self.tell(error))

    def record(self, sweep: Path, config: Any) -> None:
        """Record in a sweep that begins what this config of it may import."""
        if not self.resumed:
            from alignflow import sweeps  # imports torch

            sweeps.record(sweep, shlex.join(["alignflow", self.command, *self.words]), config)

    def report(self) -> None:
        """Write the page of a sweep."""
        if self.sweep is not None and self.sweep.is_dir():
            from alignflow import sweeps

            sweeps.report(self.sweep)


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
