"""The stages but evaluation. Each returns what is recorded as its result."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from alignflow.cost import Meter, MeteredReward
from alignflow.distillation import learn_posterior, pretrain
from alignflow.finetuning import finetune
from alignflow.report import build_report

from .build import build
from .context import Context
from .display import training_bar
from .sampling import build_steerer, sample_steered

__all__ = [
    "finetune_stage",
    "learn_posterior_stage",
    "pretrain_stage",
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
    run = {"precision": context.config.precision, "compile": context.config.compile}
    options, labels = run | build(context.config.finetuner), context.config.condition
    if labels is not None:
        options["condition"] = labels if isinstance(labels, int) else torch.tensor(list(labels))
    if context.held_out:
        options["held_out"] = context.held_out
    meter = Meter()
    train = partial(finetune, context.policy, MeteredReward(context.reward, meter))
    found = _train(context, "finetune", train, options)
    # with those of the monitor; of the last part of a stage that was cut
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
        "mean_reward": drawn["reward"].mean().item(),
        "seconds": drawn["seconds"].sum().item(),
    }


def report_stage(context: Context) -> dict[str, Any]:
    """Write the page."""
    return {"page": build_report(context.folder.path).name}


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
