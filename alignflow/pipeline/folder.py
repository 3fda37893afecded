"""The run folder: everything a run leaves behind, and what of it is finished."""

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from alignflow import __version__

from .checks import ConfigError

__all__ = ["RunFolder"]

PACKAGES = ("torch", "tensordict", "torchrl", "hydra-core", "safetensors", "numpy", "triton")


class RunFolder:
    """A folder with the config, the command, the versions, metrics, and one folder a stage.

    A stage is finished exactly if its `result.json` stands, which is renamed into place last.

    Args:
        path: Of the folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def begin(self, config: DictConfig, command: str) -> None:
        """Write down what this run is; a folder that holds the same run is left as it is.

        Raises:
            ConfigError: If the folder holds another run.
        """
        resolved = OmegaConf.to_yaml(config, resolve=True)
        path = self.path / "config.yaml"
        if path.exists():
            if path.read_text() != resolved:
                raise ConfigError(
                    f"{self.path} holds a run of another config: continue that one with "
                    f"`alignflow resume {self.path}`, or choose another folder"
                )
            return
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / "command.txt", command + "\n")
        write_text(self.path / "versions.json", json.dumps(versions(config), indent=2) + "\n")
        # last, because it makes the folder a run
        write_text(path, resolved)

    def config(self) -> DictConfig:
        """The resolved config of the run.

        Raises:
            ConfigError: If the folder holds no run.
        """
        path = self.path / "config.yaml"
        if not path.exists():
            raise ConfigError(f"{self.path} is no run folder: it has no config.yaml")
        config = OmegaConf.load(path)
        if not isinstance(config, DictConfig):
            raise ConfigError(f"{path} is no config of a run")
        return config

    def stage(self, name: str) -> Path:
        """Folder of a stage, made if need be."""
        folder = self.path / "stages" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def result(self, name: str) -> dict[str, Any] | None:
        """What a stage found; None while it is not finished."""
        path = self.path / "stages" / name / "result.json"
        return json.loads(path.read_text()) if path.exists() else None

    def finish(self, name: str, result: dict[str, Any]) -> None:
        """Record a stage as finished."""
        write_text(self.stage(name) / "result.json", json.dumps(result, indent=2) + "\n")

    def log(self, stage: str, step: int, **metrics: float) -> None:
        """Add a line to the run's metrics."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "stage": stage, **metrics}) + "\n")


def versions(config: DictConfig) -> dict[str, Any]:
    """What the numbers of a run depend on, without a word on whose machine it was."""
    packages = {"alignflow": __version__}
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


def write_text(path: Path, text: str) -> None:
    """Write a file under another name and rename it: it is there as a whole, or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
