"""What of the config each stage's results depend on, recorded beside them.

A config that is edited between a cut and a resume would otherwise mix two runs under one report.
"""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .checks import READS
from .folder import RunFolder, read_json, write_json
from .method_keys import completed
from .older import METHODS, modernized
from .settings import ConfigError, with_defaults

__all__ = ["bind", "check_bindings", "check_unmixed", "modernized_bindings"]

BINDING = "depends_on.json"
# where and how fast a run is computed is no part of what it computes
BASIS = {"seed", "precision", "policy"}
TRAINS = ("pretrain", "learn_posterior")
# stages whose results a stage reads
UPSTREAM = {
    "pretrain": (),
    "learn_posterior": ("pretrain",),
    "learn_value": TRAINS,
    "finetune": TRAINS,
    "steer": (*TRAINS, "learn_value"),
    "evaluate": (*TRAINS, "learn_value", "finetune", "steer"),
    "report": (*TRAINS, "learn_value", "finetune", "steer", "evaluate"),
}
SETTINGS = {"learn_value": {"condition"}, "finetune": {"condition", "strength"}} | dict.fromkeys(
    ("steer", "evaluate", "report"), {"condition", "strength", "evaluation"}
)
SHOWN = 4  # keys that an error names


def bind(run_folder: RunFolder, config: DictConfig, stage: str) -> None:
    """Record what a stage that begins depends on."""
    path = run_folder.stage(stage) / BINDING
    if not path.exists():
        write_json(path, _dependences(config, stage))


def check_unmixed(folder: str | Path) -> None:
    """Refuse a folder whose config is no longer the one of its results; see `check_bindings`."""
    run_folder = RunFolder(folder)
    if run_folder.is_run:
        check_bindings(run_folder, with_defaults(run_folder.config()))


def check_bindings(run_folder: RunFolder, config: DictConfig) -> None:
    """Refuse to go on with what was made by another config; older folders recorded none.

    Raises:
        ConfigError: Naming the stages, the keys that differ, and how to go on.
    """
    changed: dict[str, list[str]] = {}
    for stage in config.stages:
        path = run_folder.path / "stages" / stage / BINDING
        if path.exists():
            now = _dependences(config, stage)
            was = modernized_bindings(read_json(path), now)
            for key in {**was, **now}:
                if was.get(key) != now.get(key):
                    told = f"{key} was {was.get(key)!r} and is {now.get(key)!r}"
                    changed.setdefault(told, []).append(stage)
    if changed:
        lines = [f"  {told}: {', '.join(stages)}" for told, stages in changed.items()]
        more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise ConfigError(
            "the config was edited after stages had begun with it:\n"
            + "\n".join([*lines[:SHOWN], *more])
            + "\nPut the old values back, or start a new run; to have these stages made anew, "
            f"delete their folders in {run_folder.path / 'stages'}"
        )


def _dependences(config: DictConfig, stage: str) -> dict[str, Any]:
    """Values by dotted key of all that a stage reads, itself or through others."""
    stages = [name for name in (*UPSTREAM[stage], stage) if name in config.stages]
    parts = BASIS.union(*(READS[name] | SETTINGS.get(name, set()) for name in stages))
    plain: Any = OmegaConf.to_container(config, resolve=True)
    found: dict[str, Any] = {}
    for part in sorted(parts):
        _flatten(part, plain.get(part), found)
    return found


def modernized_bindings(recorded: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What a stage was recorded to depend on, by dotted keys of this version.

    Args:
        recorded: Values by dotted key.
        now: The same of the present config; where no strength was recorded, that of it counts. An
            option of a method that came later has its default.
    """
    nested: dict[str, Any] = {}
    for key, value in recorded.items():
        *parents, last = key.split(".")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    was: dict[str, Any] = {}
    for part, value in modernized(nested).items():
        if part in METHODS and isinstance(value, dict) and "method" in value:
            options = {key: item for key, item in value.items() if key != "strength"}
            filled: Any = OmegaConf.to_container(completed(part, OmegaConf.create(options)))
            value = value | filled
        _flatten(part, value, was)
    strengths = [was.pop(f"{part}.strength") for part in METHODS if f"{part}.strength" in was]
    if "strength" in now:
        was.setdefault("strength", next(iter(strengths), now["strength"]))
    return was


def _flatten(key: str, value: Any, found: dict[str, Any]) -> None:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            _flatten(f"{key}.{name}", item, found)
    else:
        found[key] = value
