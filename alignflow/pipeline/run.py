"""A run: the stages of a config, in order, those already finished left alone."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from alignflow.reward_module import RewardError
from alignflow.steering import steer
from alignflow.training import check_has_network

from .build import build
from .checks import check_config, without_remnants
from .context import Context
from .display import console
from .evaluation import evaluate_stage
from .folder import RunFolder
from .stages import (
    finetune_stage,
    learn_posterior_stage,
    pretrain_stage,
    report_stage,
    steer_stage,
)

__all__ = ["resume", "run"]

STAGES: dict[str, Callable[[Context], dict[str, Any]]] = {
    "pretrain": pretrain_stage,
    "learn_posterior": learn_posterior_stage,
    "finetune": finetune_stage,
    "steer": steer_stage,
    "evaluate": evaluate_stage,
    "report": report_stage,
}


def run(config: DictConfig, folder: str | Path, command: str = "") -> Path:
    """Run a config's stages in a folder; in one that holds the same run, continue it.

    Args:
        config: As `configs/config.yaml` composes it.
        folder: Of the run.
        command: What reproduces it, kept in the folder.

    Returns:
        The folder.

    Raises:
        ConfigError: If the config is no sound run, or the folder holds another one.
        RewardError: If the reward fails; what was done is kept.
    """
    check_config(config := without_remnants(config))
    path = Path(folder)
    kept = RunFolder(path)
    context = Context(config, kept)
    if any(kept.result(stage) is None for stage in config.stages):
        rehearse(context)
    kept.begin(config, command)
    console.print(f"run folder: {path}", style="dim")
    for number, stage in enumerate(config.stages):
        if kept.result(stage) is not None:
            console.print(f"{stage}: done before", style="dim")
            continue
        start = time.perf_counter()
        try:
            result = STAGES[stage](context)
        except RewardError as error:
            raise RewardError(
                f"{error}\nWhat was done is kept: mend the reward, then `alignflow resume {path}`"
            ) from error
        kept.log(stage, number, seconds=time.perf_counter() - start)
        kept.finish(stage, result)
    return path


def rehearse(context: Context) -> None:
    """Build the parts once, so that what cannot be built stops a run before it begins."""
    config = context.config
    policy: Any = context.initial_policy
    if "learn_posterior" in config.stages:
        check_has_network(policy, "learn_posterior")
        policy = policy.with_context()
    if config.get("judge"):
        build(config.judge)
    if config.get("reward"):
        reward = context.reward
        if "steer" in config.stages:
            steer(policy, reward, **build(config.steerer))


def resume(folder: str | Path) -> Path:
    """Continue a run from its own config, where it was cut.

    Raises:
        ConfigError: If the folder holds no run.
        RewardError: As `run`.
    """
    return run(RunFolder(folder).config(), folder)
