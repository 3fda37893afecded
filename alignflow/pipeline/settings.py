"""The values of a config's keys, each checked and given the type that the stages trust."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from alignflow import checks
from alignflow.precision import PRECISIONS, check_precision

from .method_keys import METHOD_KEYS, completed

__all__ = ["ConfigError", "settled", "with_defaults"]

DEVICES = ("cpu", "cuda", "mps")
# seeds of batches are multiples of it, which torch takes below 2^64
MOST_SEED = 10**12

Check = Callable[[str, Any], Any]


class ConfigError(ValueError):
    """A config names something unknown, lacks something, or sets what nothing would read."""


def _at_least(least: int) -> Check:
    return lambda name, value: checks.count(name, value, least)


def _or_none(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a text, got {checks.shown(value)}")
    return value


def _device(name: str, value: Any) -> str:
    kind, _, number = str(value).partition(":")
    if kind not in DEVICES or not (number.isdecimal() or value == kind):
        hint = checks.did_you_mean(kind, DEVICES)
        raise ValueError(f"{name} must be cpu, cuda:N or mps, got {checks.shown(value)}{hint}")
    found = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }[kind]
    if int(number or 0) >= found:
        raise ValueError(
            f"{name}={value} is not there, torch sees {found} of the kind {kind}: use device=cpu"
        )
    return value


def _precision(name: str, value: Any) -> str:
    try:
        check_precision(value)
    except ValueError as error:
        raise ValueError(f"{error}{checks.did_you_mean(value, PRECISIONS)}") from error
    return value


def _condition(name: str, value: Any) -> Any:
    labels = value if isinstance(value, ListConfig) else [value]
    if value is None:
        return None
    if not labels or any(isinstance(label, bool) or not isinstance(label, int) for label in labels):
        raise ValueError(
            f"{name} must be a label or a list of labels, whole numbers, got {checks.shown(value)}"
        )
    return value


def _made(name: str, value: Any) -> Any:
    if value is not None and not (isinstance(value, DictConfig) and value.get("_target_")):
        raise ValueError(f"{name} must be null or have a _target_, got {checks.shown(value)}")
    return value


# errors of means need two samples
_COUNTS = {"samples": 2, "base_samples": 2, "steps": 1, "batch_size": 1, "weighed": 0}
EVALUATION: dict[str, Check] = {
    **{name: _at_least(least) for name, least in _COUNTS.items()},
    "weighed_steps": _or_none(_at_least(1)),
    "sampler": _made,
}
SETTINGS: dict[str, Check] = {
    "name": _text,
    "seed": lambda name, value: checks.count(name, value, 0, MOST_SEED),
    "device": _device,
    "precision": _precision,
    "compile": checks.flag,
    "strength": checks.nonnegative,
    "condition": _condition,
}
# of every method of a part; what one method alone takes is checked where the part is built
_TRAINS: dict[str, Check] = {
    "steps": _at_least(1),
    "batch_size": _at_least(1),
    "learning_rate": checks.positive,
    "compile": checks.flag,
    "precision": SETTINGS["precision"],
}
PARTS: dict[str, dict[str, Check]] = {
    "training": _TRAINS,
    "value": _TRAINS | {"samples": _at_least(16), "sampling_steps": _at_least(1)},
    "finetuner": _TRAINS | {"recentering": _at_least(0)},
    "steerer": dict.fromkeys(("steps", "particles", "draws"), _or_none(_at_least(1))),
}


def with_defaults(config: DictConfig) -> DictConfig:
    """A copy of a config with the default of each option that its methods leave out.

    Raises:
        ConfigError: If there is no such method, or it does not take a key.
    """
    config = config.copy()
    for part in METHOD_KEYS:
        if config.get(part):
            try:
                config[part] = completed(part, config[part])
            except ValueError as error:
                raise ConfigError(str(error)) from error
    return config


def settled(config: DictConfig) -> DictConfig:
    """A copy of a config with its values checked: 8.0 samples are 8, and 2.5 are refused.

    Raises:
        ConfigError: Naming the key, what was wanted and what came.
    """
    config = with_defaults(config)
    config = OmegaConf.create(OmegaConf.to_container(config, resolve=True))  # pyright: ignore
    _settle(config, SETTINGS)
    if unknown := sorted(set(map(str, config.evaluation)) - EVALUATION.keys()):
        hint = checks.did_you_mean(unknown[0], EVALUATION)
        raise ConfigError(
            f"unknown key {', '.join(unknown)} in evaluation; known: {', '.join(EVALUATION)}{hint}"
        )
    # run folders of earlier versions have neither a sampler nor weighed_steps
    if absent := sorted(_COUNTS.keys() - set(config.evaluation)):
        raise ConfigError(f"evaluation lacks {', '.join(absent)}")
    _settle(config.evaluation, EVALUATION, "evaluation.")
    for part, known in PARTS.items():
        if config.get(part):
            _settle(config[part], known, f"{part}.")
    return config


def _settle(node: DictConfig, known: Mapping[str, Check], prefix: str = "") -> None:
    for key, check in known.items():
        if key in node:
            try:
                node[key] = check(f"{prefix}{key}", node[key])
            except ValueError as error:
                raise ConfigError(str(error)) from error
