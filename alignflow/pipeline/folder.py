"""The run folder: everything a run leaves behind, and what of it is finished."""

import fcntl
import json
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alignflow.checkpoint.writing import write_atomically
from alignflow.results import STAGES, StageResult, encode, read
from alignflow.reward_module import RewardError
from alignflow.training.log import plain_number
from alignflow.version import VERSION

from .older import modernized, with_one_strength
from .remains import absent_parents, is_bare, remove_folder, remove_remains
from .settings import ConfigError, with_defaults
from .targets import shipped_targets, targets_of

__all__ = ["RunFolder", "read_json", "write_json"]

PACKAGES = ("torch", "tensordict", "torchrl", "hydra-core", "safetensors", "numpy", "triton")
LOCK = ".lock"
# what stops a run that could not have been begun; all else is met on the way
REFUSALS = (ValueError, TypeError, ImportError, OSError)


class RunFolder:
    """A folder with the config, the command, the versions, metrics, and one folder a stage.

    A stage is finished exactly if its `result.json` stands, which is renamed into place last.

    Args:
        path: Of the folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @property
    def is_run(self) -> bool:
        """Whether a run has begun in it."""
        return (self.path / "config.yaml").exists()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others out of the folder for the time of a run; a kill lets it go.

        What killed writes have left is removed. A run that is refused leaves what it found.

        Raises:
            ConfigError: If another process runs in the folder.
        """
        absent = absent_parents(self.path)
        empty = absent or not any(self.path.iterdir())
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOCK).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"{self.path} is in use: another process runs in it. Wait for its end, or "
                    "choose another folder"
                ) from error
            try:
                remove_remains(self.path)
                yield
            except BaseException as error:
                refused = isinstance(error, REFUSALS) and not isinstance(error, RewardError)
                if empty and (refused or not self.is_run) and is_bare(self.path):
                    remove_folder(self.path, absent)
                elif not self.is_run:
                    (self.path / LOCK).unlink()
                raise

    def check_same(self, config: DictConfig) -> None:
        """Refuse to run a config in a folder that holds a run of another.

        Raises:
            ConfigError: Saying what to do.
        """
        if not self.is_run:
            return
        # an option that came after the run began has its default
        held = with_defaults(self.config())
        if OmegaConf.to_container(held, resolve=True) != OmegaConf.to_container(
            config, resolve=True
        ):
            raise ConfigError(
                f"{self.path} holds a run of another config: continue that one with "
                f"`alignflow resume {self.path}`, or choose another folder"
            )

    def begin(self, config: DictConfig, command: str) -> None:
        """Write down what this run is; a folder that holds it already is left as it is."""
        if self.is_run:
            return
        write_atomically(self.path / "command.txt", command + "\n")
        write_json(self.path / "versions.json", versions(config))
        write_json(self.path / "targets.json", targets_of(config))
        # last, because it makes the folder a run
        write_atomically(self.path / "config.yaml", OmegaConf.to_yaml(config, resolve=True))

    def config(self) -> DictConfig:
        """The resolved config of the run.

        Raises:
            ConfigError: If the folder holds no run, or its config cannot be read.
        """
        path = self.path / "config.yaml"
        if not path.is_file():
            raise ConfigError(f"{self.path} is no run folder: it has no config.yaml")
        try:
            config = OmegaConf.load(path)
        except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
        if not isinstance(config, DictConfig):
            raise ConfigError(f"{path} is no config of a run")
        plain: dict[str, Any] = modernized(OmegaConf.to_container(config))
        return OmegaConf.create(with_one_strength(plain))

    def targets(self) -> set[str]:
        """Import paths that the run recorded when it began.

        Of a run that was begun before they were recorded, those that the package itself names.
        """
        path = self.path / "targets.json"
        return set(modernized(read_json(path))) if path.exists() else set(shipped_targets())

    def stage(self, name: str) -> Path:
        """Folder of a stage, made if need be."""
        folder = self.path / "stages" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def is_finished(self, name: str) -> bool:
        """Whether a stage has its result."""
        return self._result(name).exists()

    def result(self, name: str) -> StageResult | None:
        """What a stage found; None while it is not finished.

        Raises:
            ReportError: If its file is damaged.
        """
        return read(self._result(name), STAGES[name]) if self.is_finished(name) else None

    def finish(self, name: str, result: StageResult) -> None:
        """Record a stage as finished."""
        write_atomically(self.stage(name) / "result.json", encode(result))

    def _result(self, name: str) -> Path:
        return self.path / "stages" / name / "result.json"

    def log(self, stage: str, step: int, **metrics: float) -> None:
        """Add a line to the run's metrics, in place of one that a kill kept from counting.

        Numbers that are not finite become null.
        """
        path, mark = self.path / "metrics.jsonl", f'"stage": "{stage}"'
        lines = path.read_text().splitlines() if path.exists() else []
        others = [line for line in lines if mark not in line]
        plain = {name: plain_number(value) for name, value in metrics.items()}
        added = json.dumps({"step": step, "stage": stage, **plain}, allow_nan=False)
        write_atomically(path, "\n".join([*others, added, ""]))


def versions(config: DictConfig) -> dict[str, Any]:
    """What the numbers of a run depend on, without a word on whose machine it was."""
    packages = {"alignflow": VERSION}
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "packages": packages,
        "platform": f"{sys.platform}-{platform.machine()}",
        "device": torch.cuda.get_device_name(config.device)
        if torch.device(config.device).type == "cuda"
        else "cpu",
        "threads": torch.get_num_threads(),
        "seed": config.seed,
    }


def read_json(path: Path) -> Any:
    """What a JSON file of a run holds.

    Raises:
        ConfigError: If it is damaged.
    """
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as a whole."""
    write_atomically(path, json.dumps(value, indent=2) + "\n")
