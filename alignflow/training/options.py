"""The options of a training, whatever its loss."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import torch
from torch import nn

from alignflow import checks
from alignflow.cost import Meter
from alignflow.precision import PRECISIONS
from alignflow.settings import Check, Settings, option, optional

__all__ = ["TrainingOptions"]

MakeOptimizer: TypeAlias = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Evaluate: TypeAlias = Callable[[int, Any], dict[str, float]]
Stop: TypeAlias = Callable[[Any, dict[str, float]], bool]
Progress: TypeAlias = Callable[[int, int, dict[str, float]], None]


def _callable(arguments: str) -> Check:
    return optional(lambda name, value: checks.called(name, value, arguments))


def _clip_norm(name: str, value: Any) -> float:
    unlimited = isinstance(value, float) and value == math.inf
    return value if unlimited else checks.positive(name, value)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Settings):
    """Options of `fit`, which `pretrain`, `learn_posterior` and `finetune` take too."""

    optimizer: MakeOptimizer | None = option(
        None,
        "callable (parameters) -> optimizer; AdamW by default. Parameters that it leaves out are "
        "not trained",
        _callable("(parameters)"),
    )
    learning_rate: float = option(1e-3, "peak, of the default optimizer", checks.positive)
    warmup: int = option(
        100, "steps of linear warm-up; 0 for none", lambda n, v: checks.count(n, v, least=0)
    )
    decay: float = option(
        0.2, "fraction of the run over which the learning rate falls to 0", checks.fraction
    )
    clip_norm: float = option(1.0, "largest norm of the gradient; infinity for none", _clip_norm)
    ema_decay: float = option(
        0.999, "of the averaged weights, in [0, 1)", lambda n, v: checks.fraction(n, v, one=False)
    )
    precision: str = option(
        "fp32", "fp32 or bf16 (autocast)", lambda n, v: checks.choice(n, v, PRECISIONS)
    )
    compile: bool = option(False, "whether the network runs under torch.compile", checks.flag)
    checkpoint_every: int = option(500, "steps between checkpoints", checks.count)
    log_every: int = option(
        50, "steps between lines of metrics, each a mean over them", checks.count
    )
    evaluate: Evaluate | None = option(
        None,
        "callable (step, averaged model) -> metrics, at each checkpoint and at the end, after the "
        "checkpoint is written; what it draws changes nothing in the training",
        _callable("(step, model)"),
    )
    stop: Stop | None = option(
        None,
        "callable (averaged model, metrics) -> bool, after each evaluation; True ends the run",
        _callable("(model, metrics)"),
    )
    progress: Progress | None = option(
        None,
        "callable (step, steps, metrics), after each step, with the metrics of the newest line",
        _callable("(step, steps, metrics)"),
    )
    meter: Meter | None = option(
        None,
        "counts what the training costs; its total is part of each checkpoint, so that a run that "
        "was cut has counted each of its steps once",
    )

    @classmethod
    def split(cls, given: Mapping[str, Any]) -> tuple["TrainingOptions", dict[str, Any]]:
        """The options of a training among keyword arguments, and the others.

        Raises:
            ValueError: If one has a value that it cannot have.
        """
        names = [each.name for each in fields(cls)]
        options = cls(**{name: given[name] for name in names if name in given})
        return options, {name: given[name] for name in given if name not in names}
