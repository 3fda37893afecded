"""Configs of earlier versions, so that their run folders can be continued and reported."""

from typing import Any

from .settings import ConfigError

__all__ = ["KEYS", "METHODS", "TARGETS", "modernized", "with_one_strength"]

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
        # a module of your own, or a reward's name, may have a key of the old name
        target = config.get("_target_", "alignflow." if {"method", "name"} & set(config) else "")
        renamed = KEYS if str(target).startswith("alignflow.") else {}
        return {renamed.get(key, key): modernized(value) for key, value in config.items()}
    if isinstance(config, list):
        return [modernized(item) for item in config]
    return TARGETS.get(config, config) if isinstance(config, str) else config


METHODS = ("steerer", "finetuner")
"""Parts in which the strength of a run stood."""


def with_one_strength(config: dict[str, Any]) -> dict[str, Any]:
    """A run's config with the strength that stood in its methods at the top; changed in place.

    Raises:
        ConfigError: If the methods aim at different tilts.
    """
    if "strength" not in config:
        strengths = {
            f"{part}.strength": config[part].pop("strength")
            for part in METHODS
            if isinstance(config.get(part), dict) and "strength" in config[part]
        }
        if len(set(strengths.values())) > 1:
            found = " and ".join(f"{key}={value}" for key, value in strengths.items())
            raise ConfigError(
                f"methods compared with one tilt must share its strength, got {found}"
            )
        config["strength"] = next(iter(strengths.values()), 1.0)
    return config
