"""A training's folder: its newest checkpoint, and whether that was evaluated."""

from pathlib import Path

from alignflow import checks
from alignflow.checkpoint import CheckpointError, as_folder, is_saved, load_folder, save_folder

from .state import TrainingState, cost_of

__all__ = ["Checkpoints"]

MALFORMED = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


class Checkpoints:
    """Where a training is saved and resumed.

    Args:
        folder: Of the training; it has `checkpoint` and, once evaluated, `evaluated`.
        state: Of the training.
    """

    def __init__(self, folder: str | Path, state: TrainingState):
        self.path, self.state = as_folder(folder), state
        self.checkpoint, self.evaluated = self.path / "checkpoint", self.path / "evaluated"

    def save(self) -> None:
        """Write a checkpoint of everything that resuming to the same bits needs."""
        tensors, facts = self.state.collect()
        # weights are checked before; a dropped candidate has the log-weight -inf
        save_folder(self.checkpoint, tensors, facts, allow_nonfinite=True)

    def save_evaluated(self, stopped: bool) -> None:
        """Record that the model was evaluated at this step, and whether that ended the run."""
        descent = self.state.descent
        cost = dict(descent.meter.total.items())
        facts = {"step": descent.step, "stopped": stopped, "cost": cost}
        save_folder(self.evaluated, {}, facts)

    def resume(self, steps: int) -> tuple[int, bool] | None:
        """Set the state to the checkpoint's, if there is one.

        Args:
            steps: Length of the run.

        Returns:
            The step of the last evaluation and whether it ended the run; None without a checkpoint.

        Raises:
            CheckpointError: If the checkpoint is damaged, of another training, or of weights that
                are not finite.
        """
        folder = self.checkpoint
        if not is_saved(folder):
            return None
        tensors, facts = load_folder(folder, allow_nonfinite=True)
        try:
            step = checks.count("step", facts["step"], least=0)
            if step > steps:
                raise CheckpointError(f"{folder} is at step {step} of a run of {steps}")
            self.state.load(tensors, facts)
            if (weight := self.state.descent.infinite_weight()) is not None:
                raise CheckpointError(f"{folder} is of weights that are not finite: {weight}")
            return self._judged(facts)
        except CheckpointError:
            raise
        except MALFORMED as error:
            raise CheckpointError(
                f"{folder} is no checkpoint of this training: {type(error).__name__}: {error}"
            ) from error

    def _judged(self, facts: dict) -> tuple[int, bool]:
        descent = self.state.descent
        if "stopped" in facts:  # earlier versions saved after the evaluation
            return descent.step, checks.flag("stopped", facts["stopped"])
        found = load_folder(self.evaluated)[1] if is_saved(self.evaluated) else {}
        if found.get("step") != descent.step:
            return 0, False
        descent.meter.total = cost_of(found, descent.meter.total)
        return descent.step, checks.flag("stopped", found["stopped"])
