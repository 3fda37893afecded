"""A training in one call."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from tensordict import TensorDictBase
from torch import nn

from .options import TrainingOptions
from .trainer import Trainer

__all__ = ["fit"]

Model = TypeVar("Model", bound=nn.Module)


def fit(
    loss: nn.Module,
    model: Model,
    sample_batch: Callable[[torch.Generator], TensorDictBase],
    *,
    steps: int,
    generator: torch.Generator | int | None = None,
    folder: str | Path | None = None,
    options: TrainingOptions = TrainingOptions(),  # noqa: B008 (it is frozen)
) -> Model:
    """Minimize a loss over batches; the model with averaged weights.

    `Trainer(...)` with the same arguments is the training before it runs.

    Args:
        loss: A module from a batch to a TensorDict of scalars: those named `loss_*` are added and
            minimized, others are logged. Its trainable parameters are what is trained.
        model: The part of `loss` whose weights are averaged.
        sample_batch: A callable (generator) that draws a batch.
        steps: Gradient steps in all.
        generator: Source of all randomness of the run, or a seed.
        folder: Where metrics and checkpoints go; a run found there is continued.
        options: Of the training.

    Raises:
        ValueError: If there is nothing to train, or a number is none of its kind.
        FloatingPointError: If a loss, a gradient or a weight is not finite.
        Interrupted: After a signal, with a folder.
    """
    trainer = Trainer(
        loss,
        model,
        sample_batch,
        steps=steps,
        generator=generator,
        folder=folder,
        options=options,
    )
    return trainer.run()
