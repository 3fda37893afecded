"""The keys of a part that goes by a method: the options of that method, with their defaults.

A YAML holds what differs from the defaults, and Hydra lets any key of such a part be set
(`alignflow.configs`); here an unknown one is refused, and what is left out is stated.
"""

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from alignflow.checks import did_you_mean
from alignflow.finetuning import keywords as tuning_keywords
from alignflow.settings import Option
from alignflow.steering import keywords

__all__ = ["METHOD_KEYS", "completed"]

# what the keys of a part can be, by the name of its method
METHOD_KEYS: dict[str, Callable[[Any], dict[str, Option]]] = {
    "steerer": keywords,
    "finetuner": tuning_keywords,
}

Plain = str | int | float | list | dict | None


def completed(part: str, node: DictConfig) -> DictConfig:
    """A copy of a part with the default of each option that it leaves out.

    Args:
        part: Name of the part, in METHOD_KEYS.
        node: With its `method`.

    Raises:
        ValueError: If there is no such method, or it does not take a key.
    """
    try:
        known = METHOD_KEYS[part](node.get("method"))
        known.pop("strength", None)  # it stands once, at the top of the config
    except ValueError as error:
        raise ValueError(f"{part}: {error}") from None
    if unknown := sorted(set(map(str, node)) - {"method", *known}):
        raise ValueError(
            f"{part}: method {node.method!r} does not take {', '.join(unknown)}; it takes "
            f"{', '.join(known)}{did_you_mean(unknown[0], known)}"
        )
    node = node.copy()
    OmegaConf.set_struct(node, False)
    for name, option in known.items():
        # a grid has steps of its own
        implied = name == "steps" and "grid" in node
        if name not in node and isinstance(option.default, Plain) and not implied:
            node[name] = option.default
    return node
