"""What there is to choose from: the config groups, and the rewards that other packages bring."""

from __future__ import annotations

import re
from dataclasses import MISSING
from importlib.metadata import entry_points
from importlib.resources import files
from itertools import takewhile
from typing import TYPE_CHECKING, Any, get_args

from alignflow.tables import print_table

if TYPE_CHECKING:  # it brings torch, which a list does without
    from alignflow.settings import Option

__all__ = ["KINDS", "describe", "installed_rewards", "names", "print_kind", "print_options"]

# what can be listed, and the config group of each
KINDS = {
    "experiments": "experiment",
    "policies": "policy",
    "rewards": "reward",
    "steerers": "steerer",
    "finetuners": "finetuner",
    "data": "data",
}


def names(group: str) -> list[str]:
    """Names of the configs of a group."""
    folder = files("alignflow") / "configs" / group
    if not folder.is_dir():
        return []
    return sorted(
        item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")
    )


def describe(group: str, name: str) -> str:
    """What a config says of itself: the comment that it opens with, or else what it holds."""
    text = (files("alignflow") / "configs" / group / f"{name}.yaml").read_text("utf-8")
    opening = takewhile(lambda line: line.startswith("#"), text.splitlines())
    said = [line.lstrip("# ") for line in opening if not line.startswith("# @package")]
    if said:
        return " ".join(said)
    # comments aside, YAML of one line reads well as it is
    held = [line.split(" #")[0].strip() for line in text.splitlines() if not line.startswith("#")]
    return ", ".join(held).removeprefix("_target_: ")


def installed_rewards() -> dict[str, str]:
    """Import path of each reward that an installed package offers, by name."""
    return {point.name: point.value for point in entry_points(group="alignflow.rewards")}


def print_kind(kind: str) -> None:
    """Print a table of one kind."""
    group = KINDS[kind]
    rows = {name: describe(group, name) for name in names(group)}
    if kind == "rewards":
        rows |= {name: f"installed: {path}" for name, path in installed_rewards().items()}
    print_table(kind, ("name", "what it is"), rows.items())


def print_options(kind: str, name: str) -> None:
    """Print the options of a steerer or a finetuner.

    Raises:
        ValueError: If there is none of this name, or the kind has no options.
    """
    if kind not in ("steerers", "finetuners"):
        raise ValueError(
            f"only steerers and finetuners are shown with their options, got {kind} {name!r}"
        )
    from alignflow.finetuning import finetune
    from alignflow.steering import steer

    call: Any = steer if kind == "steerers" else finetune
    found: dict[str, Option] = call.options(name)
    rows = [(key, _type(each), _default(each), each.meaning) for key, each in found.items()]
    print_table(name, ("option", "type", "default", "meaning"), rows)


def _type(option: Option) -> str:
    """A type as one writes it: int, not <class 'int'>, and no paths of modules."""
    named = isinstance(option.type, type) and not get_args(option.type)
    text = option.type.__name__ if named else str(option.type)
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)


def _default(option: Option) -> str:
    default = option.default
    if default is MISSING:
        return "must be given"
    # a class without a repr of its own is shown by its name
    plain = type(default).__repr__ is object.__repr__
    return f"{type(default).__name__}()" if plain else repr(default)
