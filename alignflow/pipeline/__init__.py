"""Pipelines: stages run from a config, each recorded, so that a run can be cut and continued."""

from .build import build, build_condition, build_reward
from .checks import ConfigError, check_config, without_remnants
from .run import resume, run

__all__ = [
    "ConfigError",
    "build",
    "build_condition",
    "build_reward",
    "check_config",
    "resume",
    "run",
    "without_remnants",
]
