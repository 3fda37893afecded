"""The training loop: gradient steps, checkpoints, metrics and evaluations.

Averaged weights, mixed precision, clipping, a learning-rate schedule, checkpoints that survive a
kill, resume to the same bits, JSON lines and TensorBoard. Whatever is random in a run draws from
one generator, or from torch's global randomness seeded by it, and both are part of each checkpoint.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from alignflow import checks
from alignflow.interrupts import PendingSignal, deferred_signals, pending_signal
from alignflow.modes import frozen
from alignflow.trainable import TrainablePolicy

from .checkpoints import Checkpoints
from .descent import DIVERGED, Descent
from .log import Means, MetricsLog
from .options import TrainingOptions
from .randomness import GlobalRandomness
from .state import TrainingState

__all__ = ["Trainer"]

Model = TypeVar("Model", bound=nn.Module)


class Trainer(Generic[Model]):
    """A training before it runs, and its loop.

    Args:
        loss: A module from a batch to a TensorDict of scalars: those named `loss_*` are added and
            minimized, others are logged. Its trainable parameters are what is trained.
        model: The part of `loss` whose weights are averaged.
        sample_batch: A callable (generator) that draws a batch.
        steps: Gradient steps in all.
        generator: Source of all randomness of the run, or a seed.
        folder: Where metrics and checkpoints go; None saves nothing.
        options: Of the training.
        held: Modules that are in evaluation mode and take no gradient while it runs.

    Attributes:
        stopped: Whether an evaluation ended the run.
        progress: A callable (step, steps, metrics), called after each step.

    Raises:
        ValueError: If there is nothing to train, or a number is none of its kind.
    """

    def __init__(
        self,
        loss: nn.Module,
        model: Model,
        sample_batch: Callable[[torch.Generator], TensorDictBase],
        *,
        steps: int,
        generator: torch.Generator | int | None = None,
        folder: str | Path | None = None,
        options: TrainingOptions = TrainingOptions(),  # noqa: B008 (it is frozen)
        held: Iterable[nn.Module] = (),
    ):
        self.options, self.held = options, tuple(held)
        self.steps, self.progress = checks.count("steps", steps), options.progress
        generator = checks.as_generator(generator) or torch.Generator().manual_seed(0)
        self.descent = Descent(loss, model, sample_batch, self.steps, generator, options)
        self.means = Means()
        self.state = TrainingState(self.descent, self.means)
        self.checkpoints = None if folder is None else Checkpoints(folder, self.state)
        self.evaluated, self.stopped = 0, False
        self._randomness = GlobalRandomness(generator, self.descent.device)
        if options.compile:
            # after the average, which is a copy of the model as it is
            network = model.module if isinstance(model, TrainablePolicy) else model
            network.compile()

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.descent.step

    @property
    def average(self) -> AveragedModel:
        """The averaged model, `average.module`, in evaluation mode."""
        return self.descent.average

    def run(self) -> Model:
        """Train from the newest checkpoint, or from the start, to the end; the averaged model.

        A step that raises leaves a checkpoint of all steps before it. With a folder SIGINT and
        SIGTERM end the run after the step in which they come, and leave a checkpoint too.

        Raises:
            FloatingPointError: If a loss, a gradient or a weight is not finite. What was saved
                before stays.
            Interrupted: After such a signal.
        """
        with frozen(*self.held), self._randomness, self._interruptible() as pending:
            self.resume()
            path = None if self.checkpoints is None else self.checkpoints.path
            with MetricsLog(path, self.step, self.evaluated == self.step) as log:
                if self._at_checkpoint:
                    self._evaluate(log)
                self._train(log, pending)
        return cast(Model, self.average.module)

    def _train(self, log: MetricsLog, pending: PendingSignal) -> None:
        metrics: dict[str, float] = {}
        self.means.go_on()
        while self.step < self.steps and not self.stopped:
            self._end_if_asked(pending)
            try:
                scalars = self.train_step()
            except Exception:
                # what failed may have been ended by the same signal, as workers of a reward are
                self._end_if_asked(pending)
                raise
            self.means.add(scalars)
            if self.step % self.options.log_every == 0 or self.step == self.steps:
                metrics = self.means.take()
                log(self.step, metrics)
            if self.progress is not None:
                self.progress(self.step, self.steps, metrics)
            if self._at_checkpoint:
                self._check_weights()
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
        try:
            return self.descent()
        except Exception:
            if self.descent.infinite_weight() is None:
                self.save()
            raise

    def save(self) -> None:
        """Write a checkpoint, where there is a folder."""
        if self.checkpoints is not None:
            self.checkpoints.save()

    def resume(self) -> bool:
        """Continue from the folder's checkpoint if there is one; whether there was.

        Raises:
            CheckpointError: If the checkpoint is damaged, of another training, or of weights that
                are not finite.
        """
        found = None if self.checkpoints is None else self.checkpoints.resume(self.steps)
        if found is not None:
            self.evaluated, self.stopped = found
        return found is not None

    @property
    def _at_checkpoint(self) -> bool:
        every = self.options.checkpoint_every
        return self.step > 0 and (self.step % every == 0 or self.step == self.steps)

    def _evaluate(self, log: MetricsLog) -> None:
        """Evaluate the averaged model, unless that was done at this step before."""
        evaluate, stop, randomness = (
            self.options.evaluate,
            self.options.stop,
            self.descent.randomness,
        )
        if evaluate is None or self.evaluated == self.step:
            return
        randomness = self.descent.randomness
        before = randomness.state
        try:
            metrics = evaluate(self.step, self.average.module)
            log(self.step, metrics)
            self.stopped = stop is not None and stop(self.average.module, metrics)
        finally:
            randomness.state = before
        self.evaluated = self.step
        if self.checkpoints is not None:
            self.checkpoints.save_evaluated(self.stopped)

    def _check_weights(self) -> None:
        """Refuse weights that are not finite, before they are saved or evaluated."""
        if (weight := self.descent.infinite_weight()) is not None:
            stays = "" if self.checkpoints is None else "; the checkpoint before it stays"
            raise FloatingPointError(
                f"{weight} is not finite after step {self.step}: {DIVERGED}{stays}"
            )

    @contextmanager
    def _interruptible(self) -> Iterator[PendingSignal]:
        # without a folder there is nothing to save, and a signal acts at once
        if self.checkpoints is None:
            yield pending_signal()
            return
        with deferred_signals() as pending:
            yield pending

    def _end_if_asked(self, pending: PendingSignal) -> None:
        if pending.signal is None:
            return
        where = f"after step {self.step} of {self.steps}"
        if self.checkpoints is not None:
            self._check_weights()
            self.save()
            where += f"; {self.checkpoints.path} has a checkpoint to go on from"
        pending.raise_if_any(where)
