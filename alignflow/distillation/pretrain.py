"""`af.pretrain`: a flow map learned from data, or from a teacher, in one call."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from alignflow.flow_map import FlowMap
from alignflow.progress import watched
from alignflow.training import TRAINER_OPTIONS, Trainer, check_has_network

from .loss import build_loss
from .student import student

__all__ = ["batches", "pretrain"]


@watched
def pretrain(
    policy: Any,
    data: Any,
    loss: str = "psd",
    steps: int = 5000,
    batch_size: int = 1024,
    teacher: FlowMap | None = None,
    generator: torch.Generator | None = None,
    folder: str | Path | None = None,
    compile: bool = False,
    **options,
) -> Any:
    """Train a flow map and return it with averaged weights; the policy handed in is untouched.

    Args:
        policy: A `FlowMapPolicy` around a network, trained or not.
        data: A tensor (N, *E); a data set of states or of (state, label) pairs; an object with
            `sample(n, generator)`; or a call of n that draws (n, *E).
        loss: flow_matching, psd, psd_midpoint, lsd, esd or meanflow.
        steps: Gradient steps.
        batch_size: Rows of a step.
        teacher: A frozen flow map to distil; None learns from the data alone.
        generator: Source of batches, noise and times.
        folder: Where metrics and checkpoints go; a run found there is continued.
        compile: Whether the network runs under `torch.compile`.
        **options: Of `Trainer` (learning_rate, ema_decay, precision, ...) or of `FlowMapLoss`
            (diagonal_fraction, times, path, weight, condition_dropout).

    Raises:
        ValueError: If the policy has nothing to train, or an option is not known.
    """
    check_has_network(policy, "pretrain")
    generator = generator or torch.Generator().manual_seed(0)
    policy = student(policy)
    settings = {name: options.pop(name) for name in TRAINER_OPTIONS if name in options}
    objective = build_loss(loss, policy, teacher=teacher, generator=generator, **options)
    if objective.times.both_directions:
        policy.invertible = True
    draw = batches(data, batch_size)
    trainer = Trainer(
        objective, policy, draw, steps=steps, generator=generator, folder=folder, **settings
    )
    if compile:
        policy.module.compile()
    return trainer.run().eval()


def batches(data: Any, n: int) -> Callable[[torch.Generator], TensorDictBase]:
    """A call of (generator) that draws n rows of data as a TensorDict with `data`.

    Raises:
        ValueError: If the data is empty.
        TypeError: If it is none of the kinds that `pretrain` names.
    """
    if hasattr(data, "sample"):
        return lambda generator: _as_batch(data.sample(n, generator=generator))
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        if not len(data):
            raise ValueError("the data set is empty")
        return lambda generator: _rows(data, torch.randint(len(data), (n,), generator=generator))
    if callable(data):
        return lambda generator: _as_batch(data(n))
    raise TypeError(
        "data must be a tensor, a data set, an object with sample(n, generator) or a call of n, "
        f"got {type(data).__name__}"
    )


def _rows(data: Any, rows: Tensor) -> TensorDictBase:
    if isinstance(data, Tensor):
        return _as_batch(data[rows])
    items = [data[i] for i in rows.tolist()]
    if isinstance(items[0], (tuple, list)):
        batch = _as_batch(torch.stack([state for state, _ in items]))
        batch["condition"] = torch.as_tensor([label for _, label in items])
        return batch
    return _as_batch(torch.stack(items))


def _as_batch(drawn: Any) -> TensorDictBase:
    if isinstance(drawn, TensorDictBase):
        return drawn
    return TensorDict({"data": drawn}, batch_size=len(drawn))
