"""The overrides `key=value` of a command line, and explanations of mistaken ones."""

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from alignflow.listing import installed_rewards, names

__all__ = [
    "OPEN_PARTS",
    "check_chosen",
    "config_flags",
    "explained",
    "offer_installed_rewards",
    "overrides_first",
    "with_one_strength",
    "without_old_arguments",
]

# parts that go by a method, whose options are their keys
OPEN_PARTS = ("steerer", "finetuner")
# flags that take the next word, in both of their forms
_TAKES = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")
_TARGET = re.compile(r"([\w.]+)\._target_=")
# where the strength of a run stood in earlier versions
_STRENGTH = re.compile(r"\+{0,2}(?:steerer|finetuner)\.strength=")


def config_flags(words: Sequence[str]) -> list[str]:
    """Of the words, those that say where configs lie."""
    flags = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in _TAKES:
            flags += [word, following]
        elif word.startswith(tuple(f"{flag}=" for flag in _TAKES)):
            flags.append(word)
    return flags


def overrides_first(words: Sequence[str]) -> list[str]:
    """The words in the order that Hydra's parser needs, which loses overrides behind a flag."""
    consumed = {i + 1 for i, word in enumerate(words) if word in _TAKES}
    rank = [not _is_override(word) or i in consumed for i, word in enumerate(words)]
    return [word for _, word in sorted(zip(rank, words, strict=True), key=lambda pair: pair[0])]


def with_one_strength(words: Sequence[str]) -> list[str]:
    """The words, with `strength=2` for the `steerer.strength=2` of earlier versions.

    Raises:
        ValueError: If the methods are given different strengths.
    """
    old = [word for word in words if _STRENGTH.match(word)]
    values = {word.partition("=")[2] for word in old if "steerer.strength}" not in word}
    if len(values) > 1:
        raise ValueError(
            f"{' and '.join(old)}: methods compared with one tilt must share its strength, which "
            f"stands once: strength={min(values)}"
        )
    # in its place, for the order of a sweep's runs
    return [
        word if word not in old else f"strength={min(values)}"
        for word in words
        if word not in old[1:]
    ]


def without_old_arguments(words: Sequence[str], config_name: str = "config") -> list[str]:
    """The words, with the arguments dropped of each target that another one replaces.

    `policy.module._target_=my_module.Net` leaves nothing of the network that stood there, so what
    the new one takes is given as if nothing had been: policy.module.hidden=64.
    """
    changed = [found[1] for word in words if (found := _TARGET.match(word))]
    for key in ("reward", "policy"):
        if key in changed and not any(word.lstrip("+").startswith(f"{key}=") for word in words):
            words = [f"{key}=custom", *words]
    if not changed:
        return list(words)
    others = [word for word in words if not any(_within(word, key) for key in changed)]
    composed, dropped = _composed(others, config_name), []
    for key in changed:
        given = {word.partition("=")[0].lstrip("+") for word in words}
        old = [f"{key}.{name}" for name in _keys(composed, key) if name != "_target_"]
        dropped += [
            f"~{name}"
            for name in old
            if name not in given and not any(_within(word, name) for word in given)
        ]
        # what stood there may not have had this one
        words = [
            f"++{word}" if _within(word, key) and not _TARGET.match(word) else word
            for word in words
        ]
    return [*words, *dropped]


def check_chosen(words: Sequence[str], config: Any) -> None:
    """Refuse words that set an option of a method where none is chosen.

    Raises:
        ValueError: Naming the word and what is lacking.
    """
    for word in words:
        part = word.lstrip("+").partition(".")[0]
        if (
            part in OPEN_PARTS
            and not word.startswith("~")
            and "method" not in (config.get(part) or {})
        ):
            raise ValueError(f"{word} would do nothing: choose a {part}, {part}=NAME")


def offer_installed_rewards() -> None:
    """Make `reward=NAME` a choice for each reward of an installed package."""
    from hydra.core.config_store import ConfigStore

    for name in set(installed_rewards()) - set(names("reward")):
        ConfigStore.instance().store(f"{name}.yaml", {"_target_": name}, group="reward")


def explained(error: Exception, words: Sequence[str], config_name: str = "config") -> str:
    """What Hydra says of a mistaken word, in short, with the nearest name that there is."""
    from hydra.errors import OverrideParseException

    from alignflow.checks import did_you_mean  # imports torch

    if isinstance(error, OverrideParseException):
        return f"{error.override!r} cannot be read as an override, key=value: {error.message}"
    group, _, name = (getattr(error, "missing_cfg_file", None) or "").rpartition("/")
    if group:
        known = sorted(getattr(error, "options", None) or names(group))
        hint = did_you_mean(name, known)
        return f"there is no {group} {name!r}{hint} (there are {', '.join(known)})"
    lines = "\n".join(filter(None, [str(error), str(error.__cause__ or "")])).splitlines()
    said = "\n".join(line for line in lines if not line.startswith("See https"))
    found = re.search(r"Could not (?:override|delete)[^'\"]*['\"]([\w.@/]+)", said)
    key = found[1].replace("/", ".") if found else ""
    parent, _, name = key.rpartition(".")
    others = [word for word in words if word.lstrip("+~").partition("=")[0] != key]
    known = _keys(_composed(others, config_name), parent) if key else []
    if not parent and known:
        known += [item.name for item in files("alignflow.configs").iterdir() if item.is_dir()]
    if not known or name in known:
        return said
    where = f" in {parent}" if parent else ""
    return (
        f"there is no key {name!r}{where}{did_you_mean(name, known)} (there are "
        f"{', '.join(dict.fromkeys(known))}); another one is added by +{key}=..."
    )


def _composed(words: Sequence[str], config_name: str) -> Any:
    """The config that the words make; None if they make none."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    folders = [word for flag, word in zip(words, words[1:], strict=False) if flag in _TAKES[:2]]
    folders += [word.partition("=")[2] for word in words if word.startswith("--config-dir=")]
    given = [word for word in words if _is_override(word) and word not in folders]
    given += [f"hydra.searchpath=[file://{folder}]" for folder in folders]
    try:
        with hydra.initialize_config_module("alignflow.configs", version_base="1.3"):
            return hydra.compose(config_name, overrides=given)
    except (HydraException, OmegaConfBaseException):
        return None


def _is_override(word: str) -> bool:
    return not word.startswith("-") and ("=" in word or word.startswith("~"))


def _keys(config: Any, key: str) -> list[str]:
    from omegaconf import DictConfig, OmegaConf

    node = OmegaConf.select(config, key) if config is not None and key else config
    return [str(name) for name in node] if isinstance(node, DictConfig) else []


def _within(word: str, key: str) -> bool:
    return word.lstrip("+~").startswith(f"{key}.")
