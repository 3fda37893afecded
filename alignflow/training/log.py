"""The metrics of a training: JSON lines and, if it is installed, TensorBoard scalars."""

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import Tensor

__all__ = ["Means", "MetricsLog", "plain_number"]

SECONDS = "seconds_per_step"  # only lines of training have it


class Means:
    """Means of scalars over the steps since the last line, and the seconds of a step."""

    def __init__(self):
        self.sums: dict[str, Tensor] = {}
        self.count, self.seconds, self.since = 0, 0.0, time.perf_counter()

    def go_on(self) -> None:
        """Count time from now."""
        self.since = time.perf_counter()

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Count a step."""
        for name, value in scalars.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        now = time.perf_counter()
        self.seconds, self.since = self.seconds + now - self.since, now
        self.count += 1

    def take(self) -> dict[str, float]:
        """The means; counting begins anew."""
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        means[SECONDS] = self.seconds / self.count
        self.sums, self.count, self.seconds = {}, 0, 0.0
        return means


class MetricsLog(AbstractContextManager):
    """A callable (step, metrics) that writes them; numbers that are not finite become null.

    Lines that a run wrote after its last checkpoint will be written again, and are dropped here.

    Args:
        folder: Where; None writes nothing.
        step: Of the checkpoint from which the run continues.
        evaluated: Whether the evaluation at this step is part of it.
    """

    def __init__(self, folder: Path | None, step: int, evaluated: bool):
        self.folder, self.step, self.evaluated = folder, step, evaluated
        self.file = self.board = None

    def __enter__(self) -> "MetricsLog":
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / "metrics.jsonl"
            valid = self._cut_down(path)
            self.file = path.open("a", buffering=1)
            self.board = _tensorboard(self.folder, self.step)
            for line in valid:
                if line["step"] == self.step:
                    self._draw(self.step, line)
        return self

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.file is not None:
            plain = {name: plain_number(value) for name, value in metrics.items()}
            self.file.write(json.dumps({"step": step, **plain}, allow_nan=False) + "\n")
        self._draw(step, metrics)

    def flush(self) -> None:
        """Write buffered lines to disk."""
        if self.board is not None:
            self.board.flush()

    def __exit__(self, *error) -> None:
        for sink in (self.file, self.board):
            if sink is not None:
                sink.close()

    def _cut_down(self, path: Path) -> list[dict[str, Any]]:
        """The lines before the checkpoint, with the file cut down to them."""
        if not path.exists():
            return []
        lines = path.read_text("utf-8").splitlines(keepends=True)
        parsed = [(line, _parsed(line)) for line in lines]
        valid = [(line, found) for line, found in parsed if self._is_valid(found)]
        if len(valid) < len(lines):
            # renamed into place, so that a kill here loses none
            shorter = path.with_name(f".{path.name}.new")
            shorter.write_text("".join(line for line, _ in valid), "utf-8")
            os.replace(shorter, path)
        return [found for _, found in valid]

    def _is_valid(self, line: dict[str, Any]) -> bool:
        step = line.get("step")
        if not isinstance(step, int):
            return False
        return step < self.step or (step == self.step and (self.evaluated or SECONDS in line))

    def _draw(self, step: int, metrics: Mapping[str, Any]) -> None:
        if self.board is not None:
            for name, value in metrics.items():
                if name != "step" and value is not None:
                    self.board.add_scalar(name, value, step)


def _tensorboard(folder: Path, step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # what an earlier part drew from this step on is hidden: it is drawn again
    return SummaryWriter(folder / "tensorboard", purge_step=step)


def _parsed(line: str) -> dict[str, Any]:
    """The object of a line; empty for a line that was cut."""
    try:
        found = json.loads(line) if line.endswith("\n") else {}
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def plain_number(value: Any) -> Any:
    """A number as JSON has it; None for one that is not finite."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
