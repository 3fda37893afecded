"""Gradient steps on a loss; a step that fails is undone."""

import math
from collections.abc import Callable
from functools import partial

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.lr_scheduler import LambdaLR

from alignflow import checks
from alignflow.cost import Meter
from alignflow.precision import autocast

from .average import ema
from .buffers import BufferBackup
from .finite import gradient_norms, infinite_parameter, show_terms
from .options import TrainingOptions
from .randomness import Randomness, RandomState
from .rate import schedule

__all__ = ["DIVERGED", "Descent"]

DIVERGED = "a step has led it there, as too large a learning rate does"


class Descent:
    """The optimizer, its schedule and the averaged weights; a call is one gradient step.

    Args:
        loss: A module from a batch to a TensorDict of scalars.
        model: The part of it whose weights are averaged.
        sample_batch: A callable (generator) that draws a batch.
        steps: Length of the run, for its schedule.
        generator: Source of all randomness.
        options: Of the training.

    Attributes:
        step: Steps taken.
        average: Of the weights, in evaluation mode.
        optimizer: Of the trainable parameters.
        randomness: What is drawn from.
        meter: What it has cost.

    Raises:
        ValueError: If there is nothing to train.
    """

    def __init__(
        self,
        loss: nn.Module,
        model: nn.Module,
        sample_batch: Callable[[torch.Generator], TensorDictBase],
        steps: int,
        generator: torch.Generator,
        options: TrainingOptions,
    ):
        self.loss, self.model, self.sample_batch = loss, model, sample_batch
        self.options = options
        trainable = [p for p in loss.parameters() if p.requires_grad]
        if not trainable:
            raise ValueError(
                "there is nothing to train: no parameter of the loss requires a gradient"
            )
        self.device = trainable[0].device
        self.optimizer = _optimizer(trainable, options)
        factor = partial(schedule, steps=steps, warmup=options.warmup, decay=options.decay)
        self._rate = LambdaLR(self.optimizer, factor)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._with_gradient = list(dict.fromkeys([*trainable, *self.parameters]))
        self.average = ema(model, options.ema_decay).requires_grad_(False).eval()
        self.randomness = Randomness(generator, self.device)
        self.meter = options.meter or Meter()
        self._buffers = BufferBackup(loss)
        self.go_on_from(0)

    def go_on_from(self, step: int) -> None:
        """Set the number of steps taken, in the schedule too."""
        self.step = step
        # the rate is set at the beginning of a step; the count only quiets a warning about that
        at = {"last_epoch": step - 1, "_step_count": step + 2}
        self._rate.load_state_dict(self._rate.state_dict() | at)

    def __call__(self) -> dict[str, Tensor]:
        """One step; the loss's scalars and the gradient's norm, detached.

        One that raises leaves everything as it was before it.

        Raises:
            FloatingPointError: If a loss or a gradient is not finite; it names the term.
        """
        before, counted = self.randomness.state, self.meter.total
        self._buffers.save()
        try:
            scalars, norm = self._differentiate(before)
        except Exception:
            self._undo(before)
            self.meter.total = counted
            raise
        self._update(norm)
        return {**{name: value.detach() for name, value in scalars.items()}, "gradient_norm": norm}

    def infinite_weight(self) -> str | None:
        """Name of a weight, or of an average, that is not finite."""
        return infinite_parameter(self.loss) or infinite_parameter(self.average)

    def _differentiate(self, before: RandomState) -> tuple[dict[str, Tensor], Tensor]:
        """The loss's scalars on a batch, and the norm of the gradient that is left in `.grad`."""
        scalars = self._scalars()
        total = torch.stack(list(_losses(scalars).values())).sum()
        self._clear_gradients()
        total.backward()
        norm = get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        # asked once: each time a GPU must be waited for
        if not torch.isfinite(total.detach()) & torch.isfinite(norm):
            raise FloatingPointError(self._what_is_not_finite(scalars, before))
        return scalars, norm

    def _scalars(self) -> dict[str, Tensor]:
        """The loss's scalars on a batch."""
        batch = self.sample_batch(self.randomness.generator)
        with autocast(self.options.precision, self.device):
            return dict(self.loss(batch.to(self.device)).items())

    def _update(self, norm: Tensor) -> None:
        clip_grads_with_norm_(self.parameters, self.options.clip_norm, norm)
        self._rate.step()
        self.optimizer.step()
        # an autocast around the whole run would keep casts of the weights as they were
        torch.clear_autocast_cache()
        self.average.update_parameters(self.model)
        self.step += 1

    def _what_is_not_finite(self, scalars: dict[str, Tensor], before: RandomState) -> str:
        """The error message of a step whose loss or gradient is not finite."""
        values = {name: value.item() for name, value in _losses(scalars).items()}
        if (weight := self.infinite_weight()) is not None:
            return f"{weight} is not finite at step {self.step}: {DIVERGED}"
        if not all(map(math.isfinite, values.values())):
            return f"the loss is not finite at step {self.step}: {show_terms(values)}"
        # each term alone, on the same batch again, whose graph is gone by now
        self._undo(before)
        norms = gradient_norms(_losses(self._scalars()), self.parameters)
        return (
            f"the norm of the gradient is not finite at step {self.step}: {show_terms(norms)}, "
            f"where the loss is finite: {show_terms(values)}"
        )

    def _clear_gradients(self) -> None:
        for parameter in self._with_gradient:
            parameter.grad = None

    def _undo(self, before: RandomState) -> None:
        """Undo a step that failed before it changed the weights."""
        self.randomness.state = before
        self._buffers.restore()
        self._clear_gradients()


def _optimizer(parameters: list[nn.Parameter], options: TrainingOptions) -> torch.optim.Optimizer:
    if options.optimizer is None:
        return torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=0.0)
    made, wanted = options.optimizer(parameters), "a torch.optim.Optimizer"
    return checks.instance("optimizer(parameters)", made, torch.optim.Optimizer, wanted)


def _losses(scalars: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in scalars.items() if name.startswith("loss")}
