"""The stages but evaluation. Each returns what is recorded as its result."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from alignflow.cost import Meter, MeteredReward
from alignflow.distillation import learn_posterior, learn_value, pretrain
from alignflow.finetuning import finetune
from alignflow.flow_map import FlowMap
from alignflow.report import build_report
from alignflow.results import (
    CalibrationRow,
    FinetuneResult,
    Graph,
    ReportResult,
    SteerResult,
    TrainingResult,
    ValueResult,
    convert,
    encode,
)

from .auto import method_name
from .build import build
from .context import Context
from .display import training_bar
from .sampling import build_steerer, sample_steered, valid_rewards

__all__ = [
    "dry_run_training",
    "finetune_stage",
    "learn_posterior_stage",
    "learn_value_stage",
    "pretrain_stage",
    "report_stage",
    "steer_stage",
]


def pretrain_stage(context: Context) -> TrainingResult:
    """Learn the flow map of a data set."""
    train = partial(pretrain, context.initial_policy, context.data)
    return TrainingResult(**_train(context, "pretrain", train, _pretraining(context)))


def learn_posterior_stage(context: Context) -> TrainingResult:
    """Make the model a stochastic flow map, from the data or, without any, by GLASS."""
    train = partial(learn_posterior, context.pretrained, context.data)
    return TrainingResult(**_train(context, "learn_posterior", train, _pretraining(context)))


def learn_value_stage(context: Context) -> ValueResult:
    """Learn the value of the reward, by scored samples of the base."""
    train = partial(learn_value, context.policy, context.reward)
    found = _train(context, "learn_value", train, _valuing(context))
    card = context.value.facts
    rows = [CalibrationRow(**row) for row in card["calibration"]]
    return ValueResult(**found, samples=card["samples"], calibration=rows)


def finetune_stage(context: Context) -> FinetuneResult:
    """Change the model for good, towards the tilt."""
    meter = Meter()
    reward = MeteredReward(context.reward, meter)
    train = partial(finetune, context.policy, reward, meter=meter)
    found = _train(context, "finetune", train, _tuning(context))
    return FinetuneResult(
        **found,
        reward_calls=int(meter.total.reward_calls),
        reward_vjps=int(meter.total.reward_vjps),
    )


def steer_stage(context: Context) -> SteerResult:
    """Sample the frozen model, steered."""
    steerer = build_steerer(context, context.policy, context.value)
    folder = context.folder.stage("steer")
    (folder / "graph.txt").write_text(f"{steerer}\n")
    (folder / "graph.json").write_text(encode(convert(steerer.graph(), Graph, folder)))
    drawn = sample_steered(context, steerer)
    return SteerResult(
        method=method_name(context),
        n=len(drawn["reward"]),
        mean_reward=valid_rewards(drawn["reward"], "the steerer").mean().item(),
        seconds=drawn["seconds"].sum().item(),
    )


def report_stage(context: Context) -> ReportResult:
    """Write the page."""
    return ReportResult(page=build_report(context.folder.path).name)


def dry_run_training(context: Context, stage: str, policy: FlowMap) -> Any:
    """Refuse what a stage that trains would refuse before its first step; the training.

    Args:
        context: Of the run.
        stage: The stage.
        policy: Like the one that the stage will begin with, trained or not.
    """
    run = {
        "generator": context.training_generator(),
        "folder": context.folder.path / "stages" / stage,
    }
    if stage == "pretrain":
        return pretrain.build(policy, context.data, **_pretraining(context), **run)
    if stage == "learn_posterior":
        # its batch is only used to measure the data's std
        options = _pretraining(context) | {"batch_size": 2}
        return learn_posterior.build(policy, context.data, **options, **run)
    if stage == "learn_value":
        return learn_value.build(policy, context.reward, **_valuing(context), **run)
    return finetune.build(policy, context.reward, **_tuning(context), **run)


def _pretraining(context: Context) -> dict[str, Any]:
    """Options of the training, with a teacher where the run is."""
    options = build(context.config.training)
    if isinstance(teacher := options.get("teacher"), FlowMap):
        options["teacher"] = teacher.to(context.config.device)
    return options


def _tuning(context: Context) -> dict[str, Any]:
    """Options of the finetuner, with what the run says for all of its stages."""
    options = _aligning(context, build(context.config.finetuner))
    options["strength"] = context.config.strength
    if context.held_out:
        options["held_out"] = context.held_out
    return options


def _valuing(context: Context) -> dict[str, Any]:
    """Options of the value, likewise; up to the strength of a run that has a range is up to its
    largest."""
    options = _aligning(context, build(context.config.value))
    if isinstance(given := options.get("strengths"), list):
        options["strengths"] = [each[-1] if isinstance(each, list) else each for each in given]
    return options


def _aligning(context: Context, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a part, with the precision, the compilation and the condition of the run."""
    config, labels = context.config, context.config.condition
    options = {name: config[name] for name in ("precision", "compile")} | options
    if labels is not None:
        options["condition"] = labels if isinstance(labels, int) else torch.tensor(list(labels))
    return options


def _train(
    context: Context, stage: str, train: Callable[..., Any], options: dict[str, Any]
) -> dict[str, Any]:
    start = time.perf_counter()
    with training_bar(stage, context.config.device) as progress:
        model = train(
            **options,
            generator=context.training_generator(),
            folder=context.folder.stage(stage),
            progress=progress,
        )
    context.save_model(stage, model)
    return {"steps": options["steps"], "seconds": time.perf_counter() - start}
