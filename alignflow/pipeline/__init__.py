"""Pipelines: stages run from a config, each recorded, so that a run can be cut and continued."""

from .bindings import check_unmixed
from .build import build, build_condition, build_reward, build_template, compose, find_reward
from .checks import ConfigError, check_config, without_remnants
from .run import resume, run
from .summary import print_summary

__all__ = [
    "ConfigError",
    "build",
    "build_condition",
    "build_reward",
    "build_template",
    "check_config",
    "check_unmixed",
    "compose",
    "find_reward",
    "print_summary",
    "resume",
    "run",
    "without_remnants",
]
