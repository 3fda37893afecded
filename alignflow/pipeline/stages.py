"""The stages but evaluation. Each returns what is recorded as its result."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from alignflow.cost import Meter, MeteredReward
from alignflow.distillation import learn_posterior, pretrain
from alignflow.finetuning import finetune
from alignflow.flow_map import FlowMap
from alignflow.report import build_report
from alignflow.training import dry_run

from .build import build
from .context import Context
from .display import training_bar
from .sampling import build_steerer, sample_steered
from .tilt import kept_rewards

__all__ = [
    "finetune_stage",
    "learn_posterior_stage",
    "pretrain_stage",
    "dry_run_training",
    "report_stage",
    "steer_stage",
]


def pretrain_stage(context: Context) -> dict[str, Any]:
    """Learn the flow map of a data set."""
    train = partial(pretrain, context.initial_policy, context.data)
    return _train(context, "pretrain", train, build(context.config.training))


def learn_posterior_stage(context: Context) -> dict[str, Any]:
    """Make the model a stochastic flow map, from the data or, without any, by GLASS."""
    train = partial(learn_posterior, context.pretrained, context.data)
    return _train(context, "learn_posterior", train, build(context.config.training))


def finetune_stage(context: Context) -> dict[str, Any]:
    """Change the model for good, towards the tilt."""
    meter = Meter()
    train = partial(finetune, context.policy, MeteredReward(context.reward, meter), meter=meter)
    found = _train(context, "finetune", train, _tuning(context))
    # with those of the monitor
    calls = {"reward_calls": meter.total.reward_calls, "reward_vjps": meter.total.reward_vjps}
    return found | calls


def steer_stage(context: Context) -> dict[str, Any]:
    """Sample the frozen model, steered."""
    steerer = build_steerer(context)
    folder = context.folder.stage("steer")
    (folder / "graph.txt").write_text(f"{steerer}\n")
    (folder / "graph.mmd").write_text(f"{steerer.mermaid()}\n")
    drawn = sample_steered(context, steerer)
    return {
        "method": context.config.steerer.method,
        "n": len(drawn["reward"]),
        "mean_reward": kept_rewards(drawn["reward"], "the steerer").mean().item(),
        "seconds": drawn["seconds"].sum().item(),
    }


def report_stage(context: Context) -> dict[str, Any]:
    """Write the page."""
    return {"page": build_report(context.folder.path).name}


def dry_run_training(context: Context, stage: str, policy: FlowMap) -> None:
    """Refuse what a stage that trains would refuse before its first step.

    Args:
        context: Of the run.
        stage: The stage.
        policy: Like the one that the stage will begin with, trained or not.
    """
    config: Any = context.config
    run = {
        "generator": context.training_generator(),
        "folder": context.folder.path / "stages" / stage,
    }
    if stage == "pretrain":
        pretrain.build(policy, context.data, **build(config.training), **run)
    elif stage == "learn_posterior":
        # its batch only measures here how wide the data is
        options = build(config.training) | {"batch_size": 2}
        learn_posterior.build(policy, context.data, **options, **run)
    else:
        with dry_run():
            run["progress"] = lambda step, steps, metrics: None
            finetune(policy, context.reward, **_tuning(context), **run)


def _tuning(context: Context) -> dict[str, Any]:
    """Options of the finetuner, with what the run says for all of its stages."""
    run = {"precision": context.config.precision, "compile": context.config.compile}
    options, labels = run | build(context.config.finetuner), context.config.condition
    if labels is not None:
        options["condition"] = labels if isinstance(labels, int) else torch.tensor(list(labels))
    if context.held_out:
        options["held_out"] = context.held_out
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
