"""The one training loop: a loss, a source of batches, and what a long run needs.

Averaged weights, mixed precision, clipping, a learning-rate schedule, checkpoints that survive a
kill, resume to the same bits, JSON lines and TensorBoard. Whatever is random in a run draws from
one generator, whose state is part of each checkpoint.
"""

import json
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from alignflow.checkpoint import (
    CheckpointError,
    is_saved,
    load_folder,
    load_parameters,
    save_folder,
)
from alignflow.precision import autocast, check_precision

__all__ = ["TRAINER_OPTIONS", "Trainer", "check_has_network", "ema", "schedule"]

TRAINER_OPTIONS = (
    "optimizer learning_rate warmup decay clip_norm ema_decay precision "
    "checkpoint_every log_every evaluate stop progress"
).split()
"""What calls that train pass on to `Trainer` as it comes."""


def check_has_network(policy: Any, caller: str) -> None:
    """Refuse a flow map that holds no network to train, in the name of the call that trains."""
    if not hasattr(policy, "average_velocity"):
        raise ValueError(
            f"{caller} needs a policy with a network, FlowMapPolicy(module, ...); "
            f"{type(policy).__name__} has none"
        )


def schedule(step: int, steps: int, warmup: int = 100, decay: float = 0.2) -> float:
    """Learning-rate factor: linear warm-up, constant, and a linear fall to 0 over the last share.

    Args:
        step: From 0.
        steps: Length of the run.
        warmup: Steps of the rise, at most a tenth of the run.
        decay: Share of the run that falls.
    """
    warmup = min(warmup, max(steps // 10, 1))
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
        model: The part of `loss` whose weights are averaged; `Trainer.average` holds the average.
        sample_batch: A call of (generator) that draws a batch.
        steps: Gradient steps in all.
        optimizer: A call of (parameters) that makes the optimizer; AdamW by default.
        learning_rate: Peak, of the default optimizer.
        warmup: Steps of linear warm-up.
        decay: Share of the run over which the learning rate falls to 0.
        clip_norm: Largest norm of the gradient.
        ema_decay: Of the averaged weights.
        precision: "fp32" or "bf16" (autocast).
        generator: Source of all randomness of the run.
        folder: Where metrics and checkpoints go; None keeps nothing.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between lines of metrics, each a mean over them.
        evaluate: A call of (step, averaged model) -> metrics, at each checkpoint and at the end.
        stop: A call of (averaged model, metrics) after each evaluation; True ends the run there.
        progress: A call of (step, steps, metrics) after each step; metrics are the newest line's.
    """

    def __init__(
        self,
        loss: nn.Module,
        model: nn.Module,
        sample_batch: Callable[[torch.Generator], TensorDictBase],
        *,
        steps: int,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
        learning_rate: float = 1e-3,
        warmup: int = 100,
        decay: float = 0.2,
        clip_norm: float = 1.0,
        ema_decay: float = 0.999,
        precision: str = "fp32",
        generator: torch.Generator | None = None,
        folder: str | Path | None = None,
        checkpoint_every: int = 500,
        log_every: int = 50,
        evaluate: Callable[[int, nn.Module], dict[str, float]] | None = None,
        stop: Callable[[nn.Module, dict[str, float]], bool] | None = None,
        progress: Callable[[int, int, dict[str, float]], None] | None = None,
    ):
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        check_precision(precision)
        self.loss, self.model, self.sample_batch, self.steps = loss, model, sample_batch, steps
        self.parameters = [p for p in loss.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError(
                "there is nothing to train: no parameter of the loss requires a gradient"
            )
        make = optimizer or (lambda p: torch.optim.AdamW(p, lr=learning_rate, weight_decay=0.0))
        self.optimizer = make(self.parameters)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.warmup, self.decay = warmup, decay
        self.average = ema(model, ema_decay).requires_grad_(False)
        self.clip_norm, self.precision = clip_norm, precision
        self.generator = generator or torch.Generator().manual_seed(0)
        self.folder = Path(folder) if folder is not None else None
        self.checkpoint_every, self.log_every = checkpoint_every, log_every
        self.evaluate, self.stop, self.progress = evaluate, stop, progress
        self.step, self.stopped = 0, False

    def run(self) -> nn.Module:
        """Train from the newest checkpoint, or from the start, to the end; the averaged model.

        A step that raises leaves a checkpoint of all steps before it.
        """
        if self.folder is not None:
            self.resume()
        with _metrics_log(self.folder, self.step) as log:
            sums, count, since, metrics = {}, 0, time.perf_counter(), {}
            while self.step < self.steps and not self.stopped:
                for name, value in self._guarded_step().items():
                    sums[name] = sums.get(name, 0.0) + value
                count += 1
                if self.step % self.log_every == 0 or self.step == self.steps:
                    metrics = {name: float(value) / count for name, value in sums.items()}
                    metrics["seconds_per_step"] = (time.perf_counter() - since) / count
                    log(self.step, metrics)
                    sums, count, since = {}, 0, time.perf_counter()
                if self.progress is not None:
                    self.progress(self.step, self.steps, metrics)
                if self.step % self.checkpoint_every == 0 or self.step == self.steps:
                    self._checkpoint(log)
        return self.average.module

    def train_step(self) -> dict[str, Tensor]:
        """One gradient step; the loss's scalars and the gradient's norm, detached.

        Raises:
            FloatingPointError: If a loss is not finite; the weights are left as they were.
        """
        batch = self.sample_batch(self.generator)
        device = self.parameters[0].device
        with autocast(self.precision, device):
            scalars = dict(self.loss(batch.to(device)).items())
        losses = {name: value for name, value in scalars.items() if name.startswith("loss")}
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            terms = ", ".join(f"{name}={value.item():g}" for name, value in losses.items())
            raise FloatingPointError(f"the loss is not finite at step {self.step}: {terms}")
        self.optimizer.zero_grad()
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        factor = schedule(self.step, self.steps, self.warmup, self.decay)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.optimizer.step()
        # an autocast around the whole run would keep casts of the weights as they were
        torch.clear_autocast_cache()
        self.average.update_parameters(self.model)
        self.step += 1
        return {**{name: value.detach() for name, value in scalars.items()}, "gradient_norm": norm}

    def _guarded_step(self) -> dict[str, Tensor]:
        before = self.generator.get_state()
        try:
            return self.train_step()
        except Exception:
            # a step changes the weights last, so what raised came before and is tried again
            self.generator.set_state(before)
            if self.folder is not None:
                self.save()
            raise

    def _checkpoint(self, log: Callable[[int, dict[str, float]], None]) -> None:
        if self.evaluate is not None:
            metrics = self.evaluate(self.step, self.average.module)
            log(self.step, metrics)
            self.stopped = self.stop is not None and self.stop(self.average.module, metrics)
        if self.folder is not None:
            self.save()

    def save(self) -> None:
        """Write a checkpoint of everything that resuming to the same bits needs."""
        tensors = {f"loss.{k}": v for k, v in self.loss.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.module.state_dict().items()}
        optimizer = self.optimizer.state_dict()
        scalars: dict[str, Any] = {}
        for index, state in optimizer["state"].items():
            for name, value in state.items():
                where = tensors if isinstance(value, Tensor) else scalars
                where[f"optimizer.{index}.{name}"] = value
        tensors["generator"] = self.generator.get_state()
        facts = {
            "step": self.step,
            "stopped": self.stopped,
            "optimizer": scalars,
            "averaged": int(self.average.n_averaged),
        }
        save_folder(self._checkpoint_folder, tensors, facts)

    @property
    def _checkpoint_folder(self) -> Path:
        if self.folder is None:
            raise ValueError("this run keeps nothing: give it a folder to save and resume")
        return self.folder / "checkpoint"

    def resume(self) -> bool:
        """Continue from the folder's checkpoint if there is one; whether there was.

        Raises:
            CheckpointError: If the checkpoint is damaged or of another model.
        """
        folder = self._checkpoint_folder
        if not is_saved(folder):
            return False
        tensors, facts = load_folder(folder)
        source = str(folder)
        if facts["step"] > self.steps:
            raise CheckpointError(f"{source} is at step {facts['step']} of a run of {self.steps}")
        load_parameters(self.loss, _under("loss.", tensors), source)
        load_parameters(self.average.module, _under("average.", tensors), source)
        state: dict[int, dict[str, Any]] = {}
        for key, value in {
            **_under("optimizer.", tensors),
            **_under("optimizer.", facts["optimizer"]),
        }.items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.average.n_averaged.fill_(facts["averaged"])
        self.generator.set_state(tensors["generator"])
        self.step, self.stopped = facts["step"], facts.get("stopped", False)
        return True


class _metrics_log:
    """Metrics as JSON lines and, where tensorboard is installed, as TensorBoard scalars."""

    def __init__(self, folder: Path | None, step: int):
        self.folder, self.step = folder, step

    def __enter__(self) -> Callable[[int, dict[str, float]], None]:
        self.file = self.board = None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / "metrics.jsonl"
            # lines a killed run wrote after its last checkpoint will be written again
            kept = (
                [line for line in path.read_text().splitlines() if _step(line) <= self.step]
                if path.exists()
                else []
            )
            path.write_text("".join(line + "\n" for line in kept))
            self.file = path.open("a", buffering=1)
            self.board = _tensorboard(self.folder)
        return self._log

    def _log(self, step: int, metrics: dict[str, float]) -> None:
        if self.file is not None:
            self.file.write(json.dumps({"step": step, **metrics}) + "\n")
        if self.board is not None:
            for name, value in metrics.items():
                self.board.add_scalar(name, value, step)

    def __exit__(self, *error) -> None:
        for sink in (self.file, self.board):
            if sink is not None:
                sink.close()


def _tensorboard(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder / "tensorboard")


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return math.inf


def _under(prefix: str, mapping: dict[str, Any]) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in mapping.items() if k.startswith(prefix)}
