"""The one training loop: a loss, a source of batches, and what a long run needs.

Averaged weights, mixed precision, clipping, a learning-rate schedule, checkpoints that survive a
kill, resume to the same bits, JSON lines and TensorBoard. Whatever is random in a run draws from
one generator, or from torch's global randomness seeded by it, and both are part of each checkpoint.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.swa_utils import AveragedModel

from alignflow import checks
from alignflow.checkpoint import CheckpointError, as_folder, is_saved, load_folder, save_folder
from alignflow.cost import Cost, Meter
from alignflow.flow_map import TrainablePolicy
from alignflow.interrupts import PendingSignal, deferred_signals, pending_signal
from alignflow.precision import autocast

from .buffers import BufferBackup
from .finite import gradient_norms, infinite_parameter, show_terms
from .log import Means, MetricsLog
from .options import TrainingOptions
from .randomness import GlobalRandomness, global_state, set_global_state
from .state import TrainingState

__all__ = ["Trainer", "ema", "rehearsal", "schedule"]

CHECKPOINT, EVALUATED, COUNTED = "checkpoint", "evaluated", "cost"
RUNAWAY = "a step has led it there, as too large a learning rate does"

RandomState = tuple[Tensor, dict[str, Tensor]]
"""Of a run's generator, and of torch's global randomness."""

_REHEARSAL: ContextVar[bool] = ContextVar("rehearsal", default=False)


class _Rehearsed(Exception):
    """A training that was only rehearsed has come to its door."""


@contextmanager
def rehearsal() -> Iterator[None]:
    """Inside, a call that trains ends before it reads or writes anything in a folder.

    What it refuses by then, as options that are none, is raised.
    """
    token = _REHEARSAL.set(True)
    try:
        with suppress(_Rehearsed):
            yield
    finally:
        _REHEARSAL.reset(token)


def schedule(step: int, steps: int, warmup: int = 100, decay: float = 0.2) -> float:
    """Learning-rate factor: linear warm-up, constant, and a linear fall to 0 over the last share.

    Args:
        step: From 0.
        steps: Length of the run.
        warmup: Steps of the rise, at most a tenth of the run; 0 begins at the peak.
        decay: Share of the run that falls.
    """
    warmup = max(min(warmup, steps // 10), 1)
    rise = min(1.0, (step + 1) / warmup)
    fall = min(1.0, (steps - step) / max(decay * steps, 1))
    return rise * fall


def ema(module: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of a module; a young one forgets faster, so short runs have it."""

    def average(averaged: Any, current: Any, count: Tensor | int) -> None:
        rate = min(decay, (1 + int(count)) / (10 + int(count)))
        for old, new in zip(averaged, current, strict=True):
            old.lerp_(new, 1 - rate)

    return AveragedModel(module, multi_avg_fn=average)


class Trainer:
    """Minimizes a loss over batches.

    Args:
        loss: A module from a batch to a TensorDict of scalars: those named `loss_*` are added and
            minimized, others are logged. Its trainable parameters are what is trained.
        model: The part of `loss` whose weights are averaged; `Trainer.average` holds the average,
            in evaluation mode.
        sample_batch: A call of (generator) that draws a batch.
        steps: Gradient steps in all.
        generator: Source of all randomness of the run, or a seed.
        folder: Where metrics and checkpoints go; None keeps nothing.
        options: Of the training.

    Raises:
        ValueError: If there is nothing to train, or a number is none of its kind.
    """

    def __init__(
        self,
        loss: nn.Module,
        model: nn.Module,
        sample_batch: Callable[[torch.Generator], TensorDictBase],
        *,
        steps: int,
        generator: torch.Generator | int | None = None,
        folder: str | Path | None = None,
        options: TrainingOptions = TrainingOptions(),  # noqa: B008 (it is frozen)
    ):
        self.options = options
        self.steps = checks.count("steps", steps)
        self.generator = checks.as_generator(generator) or torch.Generator().manual_seed(0)
        self.folder = None if folder is None else as_folder(folder)
        self.loss, self.model, self.sample_batch = loss, model, sample_batch
        trainable = [p for p in loss.parameters() if p.requires_grad]
        if not trainable:
            raise ValueError(
                "there is nothing to train: no parameter of the loss requires a gradient"
            )
        self.optimizer = checks.instance(
            "optimizer(parameters)",
            (options.optimizer or self._adam)(trainable),
            torch.optim.Optimizer,
            "a torch.optim.Optimizer",
        )
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._with_gradient = list(dict.fromkeys([*trainable, *self.parameters]))
        self.average = ema(model, options.ema_decay).requires_grad_(False).eval()
        self.device, self.progress = trainable[0].device, options.progress
        self.meter = options.meter or Meter()
        self.step, self.evaluated, self.stopped = 0, 0, False
        self._means, self._buffers = Means(), BufferBackup(loss)
        self._randomness = GlobalRandomness(self.generator, self.device)
        self._state = TrainingState(
            loss, self.average, self.optimizer, self.generator, self.device, self._means
        )
        if options.compile:
            # after the average, which is a copy of the model as it is
            network = model.module if isinstance(model, TrainablePolicy) else model
            network.compile()

    def _adam(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        rate = self.options.learning_rate
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)

    def run(self) -> nn.Module:
        """Train from the newest checkpoint, or from the start, to the end; the averaged model.

        A step that raises leaves a checkpoint of all steps before it. With a folder SIGINT and
        SIGTERM end the run after the step in which they come, and leave a checkpoint too.

        Raises:
            FloatingPointError: If a loss, a gradient or a weight is not finite. What was kept
                before stays.
            Interrupted: After such a signal.
        """
        if _REHEARSAL.get():
            raise _Rehearsed
        with self._randomness, self._interruptible() as pending:
            if self.folder is not None:
                self.resume()
            with MetricsLog(self.folder, self.step, self.evaluated == self.step) as log:
                if self._at_checkpoint:
                    self._evaluate(log)
                self._train(log, pending)
        return self.average.module

    def _train(self, log: MetricsLog, pending: PendingSignal) -> None:
        metrics: dict[str, float] = {}
        self._means.go_on()
        while self.step < self.steps and not self.stopped:
            self._end_if_asked(pending)
            try:
                scalars = self.train_step()
            except Exception:
                # what failed may have been ended by the same signal, as workers of a reward are
                self._end_if_asked(pending)
                raise
            self._means.add(scalars)
            if self.step % self.options.log_every == 0 or self.step == self.steps:
                metrics = self._means.take()
                log(self.step, metrics)
            if self.progress is not None:
                self.progress(self.step, self.steps, metrics)
            if self._at_checkpoint:
                self._check_weights()
                if self.folder is not None:
                    log.flush()
                    self.save()
                self._evaluate(log)

    def train_step(self) -> dict[str, Tensor]:
        """One gradient step; the loss's scalars and the gradient's norm, detached.

        A step that raises leaves everything as it was before it, and a checkpoint of that where
        there is a folder.

        Raises:
            FloatingPointError: If a loss or a gradient is not finite; it names the term.
        """
        before, counted = self._random_state(), self.meter.total
        self._buffers.take()
        try:
            scalars, norm = self._differentiate(before)
        except Exception:
            self._undo(before)
            self.meter.total = counted
            if self.folder is not None and self._infinite_weight() is None:
                self.save()
            raise
        self._update(norm)
        return {**{name: value.detach() for name, value in scalars.items()}, "gradient_norm": norm}

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
        """What the loss says of a batch."""
        batch = self.sample_batch(self.generator)
        with autocast(self.options.precision, self.device):
            return dict(self.loss(batch.to(self.device)).items())

    def _update(self, norm: Tensor) -> None:
        clip_grads_with_norm_(self.parameters, self.options.clip_norm, norm)
        factor = schedule(self.step, self.steps, self.options.warmup, self.options.decay)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.optimizer.step()
        # an autocast around the whole run would keep casts of the weights as they were
        torch.clear_autocast_cache()
        self.average.update_parameters(self.model)
        self.step += 1

    def _what_is_not_finite(self, scalars: dict[str, Tensor], before: RandomState) -> str:
        """What to say of a step whose loss or gradient is not finite."""
        values = {name: value.item() for name, value in _losses(scalars).items()}
        if (weight := self._infinite_weight()) is not None:
            return f"{weight} is not finite at step {self.step}: {RUNAWAY}"
        if not all(map(math.isfinite, values.values())):
            return f"the loss is not finite at step {self.step}: {show_terms(values)}"
        # each term alone, on the same batch again, whose graph is gone by now
        self._undo(before)
        norms = gradient_norms(_losses(self._scalars()), self.parameters)
        return (
            f"the norm of the gradient is not finite at step {self.step}: {show_terms(norms)}, "
            f"where the loss is finite: {show_terms(values)}"
        )

    def _infinite_weight(self) -> str | None:
        """Name of a weight, or of an average, that is not finite."""
        return infinite_parameter(self.loss) or infinite_parameter(self.average)

    def _check_weights(self) -> None:
        """Refuse weights that are not finite, before they are kept or judged."""
        if (weight := self._infinite_weight()) is not None:
            kept = "" if self.folder is None else "; the checkpoint before it is kept"
            raise FloatingPointError(
                f"{weight} is not finite after step {self.step}: {RUNAWAY}{kept}"
            )

    def _clear_gradients(self) -> None:
        for parameter in self._with_gradient:
            parameter.grad = None

    def _random_state(self) -> RandomState:
        return self.generator.get_state(), global_state(self.device)

    def _set_random_state(self, state: RandomState) -> None:
        self.generator.set_state(state[0])
        set_global_state(state[1], self.device)

    def _undo(self, before: RandomState) -> None:
        """Take back what a step did before it came to change the weights."""
        self._set_random_state(before)
        self._buffers.restore()
        self._clear_gradients()

    @contextmanager
    def _interruptible(self) -> Iterator[PendingSignal]:
        # without a folder there is nothing to save, and a signal acts at once
        if self.folder is None:
            yield pending_signal()
            return
        with deferred_signals() as pending:
            yield pending

    def _end_if_asked(self, pending: PendingSignal) -> None:
        if pending.signal is None:
            return
        where = f"after step {self.step} of {self.steps}"
        if self.folder is not None:
            self._check_weights()
            self.save()
            where += f"; {self.folder} has a checkpoint to go on from"
        pending.raise_if_any(where)

    @property
    def _at_checkpoint(self) -> bool:
        return self.step > 0 and (
            self.step % self.options.checkpoint_every == 0 or self.step == self.steps
        )

    def _evaluate(self, log: MetricsLog) -> None:
        """Judge the averaged model, unless it was judged at this step before."""
        if self.options.evaluate is None or self.evaluated == self.step:
            return
        before = self._random_state()
        try:
            metrics = self.options.evaluate(self.step, self.average.module)
            log(self.step, metrics)
            self.stopped = self.options.stop is not None and self.options.stop(
                self.average.module, metrics
            )
        finally:
            self._set_random_state(before)
        self.evaluated = self.step
        if self.folder is not None:
            facts = {"step": self.step, "stopped": self.stopped, **self._counted()}
            save_folder(self.folder / EVALUATED, {}, facts)

    def save(self) -> None:
        """Write a checkpoint of everything that resuming to the same bits needs."""
        tensors, facts = self._state.collect()
        # weights are checked before; a dropped candidate has the log-weight -inf
        facts = {"step": self.step, **facts, **self._counted()}
        save_folder(self._checkpoint_folder, tensors, facts, allow_nonfinite=True)

    def _counted(self) -> dict[str, Any]:
        return {COUNTED: dict(self.meter.total.items())}

    def _count_from(self, facts: dict[str, Any]) -> None:
        """Go on counting from what was kept; earlier versions kept nothing."""
        if COUNTED in facts:
            self.meter.total = Cost(**facts[COUNTED])

    @property
    def _checkpoint_folder(self) -> Path:
        if self.folder is None:
            raise ValueError("this run keeps nothing: give it a folder to save and resume")
        return self.folder / CHECKPOINT

    def resume(self) -> bool:
        """Continue from the folder's checkpoint if there is one; whether there was.

        Raises:
            CheckpointError: If the checkpoint is damaged, of another training, or of weights that
                are not finite.
        """
        folder = self._checkpoint_folder
        if not is_saved(folder):
            return False
        tensors, facts = load_folder(folder, allow_nonfinite=True)
        try:
            step = checks.count("step", facts["step"], least=0)
            if step > self.steps:
                raise CheckpointError(f"{folder} is at step {step} of a run of {self.steps}")
            self._state.load(tensors, facts, str(folder))
            if (weight := self._infinite_weight()) is not None:
                raise CheckpointError(f"{folder} is of weights that are not finite: {weight}")
            self.step = step
            self._count_from(facts)
            self.evaluated, self.stopped = self._judged(facts)
        except CheckpointError:
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{folder} is no checkpoint of this training: {type(error).__name__}: {error}"
            ) from error
        return True

    def _judged(self, facts: dict[str, Any]) -> tuple[int, bool]:
        """The step of the last evaluation, and whether it stopped the run."""
        if "stopped" in facts:  # kept here, after the evaluation, by earlier versions
            return self.step, checks.flag("stopped", facts["stopped"])
        folder = self._checkpoint_folder.with_name(EVALUATED)
        found = load_folder(folder)[1] if is_saved(folder) else {}
        if found.get("step") != self.step:
            return 0, False
        self._count_from(found)
        return self.step, checks.flag("stopped", found["stopped"])


def _losses(scalars: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in scalars.items() if name.startswith("loss")}
