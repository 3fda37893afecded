"""`af.pretrain`: a flow map learned from data, or from a teacher, in one call."""

from pathlib import Path
from typing import Any

import torch

from alignflow import checks
from alignflow.data import token_batches
from alignflow.flow_map import FlowMap
from alignflow.trainable import check_trainable
from alignflow.training import Trainer, TrainingOptions, Trains

from .loss import build_loss
from .student import student

__all__ = ["pretrain"]


@Trains
@checks.refuse_seed
def pretrain(
    policy: Any,
    data: Any,
    loss: str = "psd",
    steps: int = 5000,
    batch_size: int = 1024,
    teacher: FlowMap | None = None,
    generator: torch.Generator | int | None = None,
    folder: str | Path | None = None,
    compile: bool = False,
    **options,
) -> Trainer[Any]:
    """Train a flow map and return it with averaged weights; the policy given is untouched.

    Args:
        policy: A `FlowMapPolicy` around a network, trained or not.
        data: A tensor or array (N, *E); a data set or list of states or of (state, label) pairs; a
            TensorDict of `data` and `condition`; an object with `sample(n, generator=...)`; or a
            callable n -> (n, *E), or -> these and n conditions. States on the simplex may be given
            as their tokens, whole numbers (N, L).
        loss: flow_matching, psd, psd_midpoint, lsd, esd, trajectory or meanflow.
        steps: Gradient steps.
        batch_size: Rows of a step.
        teacher: A flow map to distil, in evaluation mode and frozen meanwhile; None learns from the
            data alone.
        generator: Source of batches, noise and times, or a seed.
        folder: Where metrics and checkpoints go; a run found there is continued.
        compile: Whether the network runs under `torch.compile`.
        **options: Of `TrainingOptions` (learning_rate, ema_decay, precision, ...) or of
            `FlowMapLoss` (diagonal_fraction, times, path, regression, weight, invertibility,
            condition_dropout).

    Raises:
        ValueError: If the policy has nothing to train, or a number is none of its kind.
    """
    check_trainable(policy, "pretrain")
    batch_size = checks.count("batch_size", batch_size)
    generator = checks.as_generator(generator) or torch.Generator().manual_seed(0)
    policy = student(policy)
    settings, options = TrainingOptions.split(options | {"compile": compile})
    objective = build_loss(loss, policy, teacher=teacher, generator=generator, **options)
    if objective.invertibility or getattr(objective.times, "both_directions", False):
        policy.invertible = True
    draw = token_batches(data, batch_size, policy)
    return Trainer(
        objective,
        policy,
        draw,
        steps=steps,
        generator=generator,
        folder=folder,
        options=settings,
        held=() if teacher is None else (teacher,),
    )
