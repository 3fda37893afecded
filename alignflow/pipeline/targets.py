"""What a config would import and call: the `_target_`s in it, at any depth.

A run records them when it begins. Its config may have been edited since, so nothing of it is
imported by `resume` before its targets have been compared with those.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .settings import ConfigError

__all__ = ["check_targets", "shipped_targets", "targets_of"]


def targets_of(config: DictConfig) -> list[str]:
    """Import paths that a config names, sorted."""
    # resolved, because an interpolation can make a node, and so a target
    plain: Any = OmegaConf.to_container(config, resolve=True)
    # a held-out reward may be its target alone
    alone = (plain.get("held_out") or {}).values()
    return sorted({*_named(plain), *(node for node in alone if isinstance(node, str))})


def check_targets(config: DictConfig, trusted: Iterable[str], source: str) -> None:
    """Refuse a config that names what was not recorded of its run.

    Raises:
        ConfigError: Naming the targets, and how to run them all the same.
    """
    if strangers := sorted(set(targets_of(config)) - set(trusted)):
        raise ConfigError(
            f"{source} names code that was not recorded as its own when it began: "
            f"{', '.join(strangers)}\nResuming would import and call it. If you trust it, say so: "
            "--trust-config"
        )


@cache
def shipped_targets() -> frozenset[str]:
    """Import paths that the package's configs name."""
    configs = files("alignflow.configs")
    groups = [group for group in configs.iterdir() if group.is_dir()]
    items = [configs / "config.yaml", *(item for group in groups for item in group.iterdir())]
    texts = [item.read_text("utf-8") for item in items if item.name.endswith(".yaml")]
    nodes = [OmegaConf.to_container(OmegaConf.create(text)) for text in texts]
    return frozenset(name for node in nodes for name in _named(node))


def _named(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        # where a call only looks a name up, that name is what counts
        looks_up = str(node.get("_target_")).startswith("hydra.utils.")
        for key, value in node.items():
            if key == "_target_" or (looks_up and key == "path"):
                yield str(value)
            else:
                yield from _named(value)
    elif isinstance(node, list):
        for item in node:
            yield from _named(item)
