"""From a config to its parts: all by Hydra, but for rewards, which `build_reward` makes."""

import inspect
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import hydra
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from alignflow.checks import did_you_mean
from alignflow.conditions import take_rows
from alignflow.data import Vocabulary
from alignflow.flow_map import FlowMap
from alignflow.listing import installed_rewards, names
from alignflow.overrides import offer_installed_rewards
from alignflow.reward_module import Reward, as_reward

from .checks import ConfigError

__all__ = [
    "build",
    "build_condition",
    "build_reward",
    "build_template",
    "compose",
    "find_reward",
]

LOCAL_MODULE = ". A module of your own must lie in the working directory or be installed"


def build(node: DictConfig) -> Any:
    """What a config node describes: an object, if it has a `_target_`, or a dict of options.

    Raises:
        ConfigError: If a target is not there or does not take what it is given.
    """
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        raise ConfigError(_in_short(error)) from error


def _in_short(error: InstantiationException) -> str:
    """The key, the target and the reason, of what Hydra says in several lines."""
    text, cause = str(error), error.__cause__
    target = "".join(re.findall(r"target '([^']+)'", text)[:1])
    _, _, key = text.partition("full_key: ")
    where = f"{key}: " if key else ""
    if cause is None or not target:
        return where + text.partition("\nfull_key: ")[0]
    if "Error locating" in text:
        return f"{where}{target} cannot be imported: {cause.__cause__ or cause}{LOCAL_MODULE}"
    if isinstance(cause, ValueError):
        return f"{where}{cause}"
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(cause))
    known = _parameters(get_object(target)) if unknown else {}
    hint = f"{did_you_mean(unknown[1], known)} ({', '.join(known)})" if unknown else ""
    return f"{where}{target} cannot be made: {cause}{hint}"


def build_reward(node: DictConfig | Mapping[str, Any] | str) -> Reward:
    """A reward from a config node with a `_target_`, or from the target alone.

    A target is an import path, with a dot or a colon before the last part, or the name of an entry
    point of the group `alignflow.rewards`. It may be a reward, or a function from samples to
    numbers, both taken as they are; or a class or factory, called with the node's other keys. The
    terms of a sum follow the same rule.

    Raises:
        ConfigError: If there is no such target, or a key is not one of its arguments.
    """
    given: Any = {"_target_": node} if isinstance(node, str) else node
    if isinstance(given, DictConfig):
        if missing := sorted(OmegaConf.missing_keys(given)):
            raise ConfigError(f"this reward leaves {', '.join(missing)} open: give a value")
        given = OmegaConf.to_container(given, resolve=True)
    if not given.get("_target_"):
        raise ConfigError("a reward needs a _target_: an import path such as my_module.my_reward")
    try:
        return as_reward(_make(given))
    except TypeError as error:
        raise ConfigError(f"{given['_target_']} is no reward: {error}") from error


def find_reward(name: str) -> Reward:
    """A reward by import path, by the name of a config, or of an installed entry point.

    Raises:
        ConfigError: If there is none.
    """
    return build_reward(compose(f"reward={name}").reward if name in names("reward") else name)


def compose(*overrides: str) -> DictConfig:
    """The config of a run with these choices."""
    offer_installed_rewards()
    with hydra.initialize_config_module("alignflow.configs", version_base="1.3"):
        return hydra.compose("config", overrides=[*overrides])


def build_condition(labels: int | Sequence[int] | None, rows: slice) -> Tensor | None:
    """Labels of the rows of a larger set of samples: one for all, or several in turn."""
    if labels is None:
        return None
    given = torch.tensor([labels] if isinstance(labels, int) else list(labels))
    return _in_turn(given, rows)


def build_template(policy: FlowMap, patterns: Sequence[str], rows: slice) -> Tensor:
    """Fixed tokens of the rows of a larger set of samples, by templates that are taken in turn.

    Raises:
        ConfigError: If the policy does not fill in.
        ValueError: If a pattern is no template of its vocabulary.
    """
    vocabulary = getattr(policy, "decoder", None)
    if not isinstance(vocabulary, Vocabulary):
        raise ConfigError("a template needs a model of strings, with a vocabulary: this is none")
    length = policy.event_shape[0]
    if getattr(policy.null_condition, "shape", None) != (length,):
        raise ConfigError(
            "this model takes no template: it was not trained to fill in, as a network with "
            "infill=True is on af.data.Infilling"
        )
    return _in_turn(vocabulary.template(patterns, length), rows)


def _in_turn(given: Tensor, rows: slice) -> Tensor:
    return take_rows(given, torch.arange(rows.start or 0, rows.stop) % len(given))


def _make(node: Any) -> Any:
    if isinstance(node, list):
        return [_make(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _make(value) for key, value in node.items() if key != "_convert_"}
    if "_target_" not in made:
        return made
    name = made.pop("_target_")
    if not isinstance(name, str):
        raise ConfigError(f"a reward's _target_ must be an import path, got {name!r}")
    return _apply(_locate(name), made, name)


def _apply(target: Any, arguments: dict[str, Any], name: str) -> Any:
    if isinstance(target, nn.Module) or not (inspect.isroutine(target) or inspect.isclass(target)):
        if arguments:
            raise ConfigError(f"{name} is a reward already and takes no {', '.join(arguments)}")
        return target
    parameters = _parameters(target)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if (unknown := set(arguments) - set(parameters)) and not open_ended:
        raise ConfigError(
            f"{name} takes no {', '.join(sorted(unknown))}; it takes {', '.join(parameters)}"
        )
    unfilled = {
        key
        for key, p in parameters.items()
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD and key not in arguments
    }
    if inspect.isroutine(target) and unfilled:
        # it still wants something: the samples
        return Reward(partial(target, **arguments), name=target.__name__)
    try:
        return target(**arguments)
    except (ValueError, ImportError, OSError, RuntimeError):
        raise
    except Exception as error:
        raise ConfigError(f"{name} cannot be made: {type(error).__name__}: {error}") from error


def _parameters(target: Any) -> dict[str, inspect.Parameter]:
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # a builtin without one
        return {}
    return {key: p for key, p in parameters.items() if p.kind is not p.VAR_POSITIONAL}


def _locate(name: str) -> Any:
    path = name if "." in name or ":" in name else installed_rewards().get(name)
    if path is None:
        offered = ", ".join(installed_rewards()) or "none is installed"
        hint = did_you_mean(name, [*names("reward"), *installed_rewards()])
        raise ConfigError(
            f"there is no reward {name!r}: give an import path (my_module.my_reward), or the name "
            f"of an entry point of the group alignflow.rewards ({offered}){hint}"
        )
    try:
        return get_object(path.replace(":", "."))
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{name} cannot be imported: {error.__cause__ or error}{LOCAL_MODULE}"
        ) from error
