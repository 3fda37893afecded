"""A run: the stages of a config, in order, those already finished left alone."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from alignflow.interrupts import deferred_signals, resumable, terminable
from alignflow.results import StageResult
from alignflow.reward_module import RewardError

from .bindings import bind, check_bindings
from .checks import TRAINING, check_config, without_remnants
from .context import Context
from .display import console
from .evaluation import evaluate_stage
from .folder import RunFolder
from .sampling import build_beside, dry_run_steerer
from .stages import (
    dry_run_training,
    finetune_stage,
    learn_posterior_stage,
    learn_value_stage,
    pretrain_stage,
    report_stage,
    steer_stage,
)
from .targets import check_targets

__all__ = ["resume", "run"]

STAGES: dict[str, Callable[[Context], StageResult]] = {
    "pretrain": pretrain_stage,
    "learn_posterior": learn_posterior_stage,
    "learn_value": learn_value_stage,
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
        command: What reproduces it, recorded in the folder.

    Returns:
        The folder.

    Raises:
        ConfigError: If the config is no sound run, or the folder holds another one.
        RewardError: If the reward fails; what was done is saved.
    """
    run_folder = RunFolder(folder)
    config = check_config(without_remnants(config))
    with terminable(), run_folder.held():
        with resumable(run_folder.path) if run_folder.is_run else nullcontext():
            context = with_classes(Context(config, run_folder))
            run_folder.check_same(context.config)
            check_bindings(run_folder, context.config)
            dry_run(context)
            run_folder.begin(context.config, command)
        with resumable(run_folder.path):
            _run_stages(context)
    return run_folder.path


def _run_stages(context: Context) -> None:
    folder = context.folder
    console.print(f"run folder: {folder.path}", style="dim")
    for number, stage in enumerate(context.config.stages):
        if folder.is_finished(stage):
            console.print(f"{stage}: done before", style="dim")
            continue
        start = time.perf_counter()
        result = _finish(context, stage)
        folder.log(stage, number, seconds=time.perf_counter() - start)
        folder.finish(stage, result)


def _finish(context: Context, stage: str) -> StageResult:
    """What a stage finds; whatever ends it before that leaves what was done, and says so."""
    bind(context.folder, context.config, stage)
    try:
        # a training ends at its next step, all else at once
        ending = deferred_signals() if stage in TRAINING else nullcontext()
        with resumable(context.folder.path, stage), ending:
            return STAGES[stage](context)
    except RewardError as error:
        raise RewardError(
            f"{error}\nWhat was done is kept: mend the reward, then `alignflow resume "
            f"{context.folder.path}`"
        ) from error


def dry_run(context: Context) -> None:
    """Build the parts once, so that what cannot be built stops a run before it begins.

    Only those of stages that are not finished.
    """
    config = context.config
    due = {stage for stage in config.stages if not context.folder.is_finished(stage)}
    if not due - {"report"}:
        return
    policy: Any = context.initial_policy
    for stage in ("pretrain", "learn_posterior"):
        if stage in due:
            dry_run_training(context, stage, policy)
    if "learn_posterior" in config.stages:
        policy = policy.with_context()
    if "finetune" in due:
        dry_run_training(context, "finetune", policy)
    if "evaluate" in due:
        _ = context.judge, context.reference, context.held_out, context.sampler
    if config.get("reward"):
        _ = context.reward
    value = None
    if "learn_value" in config.stages and due & {"learn_value", "steer"}:
        value = dry_run_training(context, "learn_value", policy).value
    if "steer" in due:
        dry_run_steerer(context, policy, value)
    if "evaluate" in due:
        build_beside(context, policy)


def with_classes(context: Context) -> Context:
    """The context, with as many classes in a fresh network as its data has, if it says none."""
    config = context.config
    module = config.policy.get("module") if config.get("policy") else None
    if "pretrain" not in config.stages or not module or module.get("classes", 1):
        return context
    labels = getattr(context.data, "labels", {}).get(getattr(context.data, "condition", None))
    if labels is not None:
        config.policy.module.classes = int(labels.max()) + 1
    return context


def resume(folder: str | Path, trust_config: bool = False) -> Path:
    """Continue a run from its recorded config, where it was cut.

    Args:
        folder: Of the run.
        trust_config: Whether code may be run that the config names and the run did not record
            when it began.

    Raises:
        ConfigError: If the folder holds no run, or its config was edited in a way that would mix
            two runs, or names code that the run did not record.
        RewardError: As `run`.
    """
    run_folder = RunFolder(folder)
    config = run_folder.config()
    if not trust_config:
        check_targets(config, run_folder.targets(), f"{folder}/config.yaml")
    return run(config, folder)
