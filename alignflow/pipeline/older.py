"""Configs of earlier versions, so that their run folders can be continued and reported."""

from typing import Any

__all__ = ["KEYS", "TARGETS", "modernized"]

_DATA = "AugmentedImages Images avatars avatars_sample deform digits glyphs image_folder".split()

_COORDINATES = "from_relative mean_free to_relative".split()

TARGETS: dict[str, str] = {
    **{f"alignflow.targets.{name}": f"alignflow.data.{name}" for name in _DATA},
    **{f"alignflow.targets.{name}": f"alignflow.coordinates.{name}" for name in _COORDINATES},
    "alignflow.finetuning.AdaptiveLevels": "alignflow.finetuning.AdaptiveStages",
    "alignflow.finetuning.EqualLevels": "alignflow.finetuning.EqualStages",
}
"""Import paths that have moved, old to new."""

KEYS: dict[str, str] = {
    "data_deviation": "data_std",
    "deviation": "std",
    "law": "distribution",
    "levels": "annealing_stages",
    "share": "ess_fraction",
}
"""Keys of this package's nodes that were renamed, old to new."""


def modernized(config: Any) -> Any:
    """A plain config (dicts and lists) in the words of this version."""
    if isinstance(config, dict):
        ours = str(config.get("_target_", "alignflow.")).startswith("alignflow.")
        renamed = KEYS if ours else {}  # a module of your own may have a key of the old name
        return {renamed.get(key, key): modernized(value) for key, value in config.items()}
    if isinstance(config, list):
        return [modernized(item) for item in config]
    return TARGETS.get(config, config) if isinstance(config, str) else config
