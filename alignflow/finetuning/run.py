"""One tuning from its base to its tilt: its levels, each perhaps recentered, then its jumps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow.distillation import UniformTimes, pretrain, student
from alignflow.flow_map import FlowMap
from alignflow.reward_module import Reward
from alignflow.training import Trainer, TrainingOptions

from .early_stop import EarlyStop
from .langevin import Langevin
from .levels import AdaptiveLevels, EqualLevels
from .own_samples import OwnSamples
from .runaway import Runaway
from .tuner import Tuner

__all__ = ["Run"]

WHOLE = 0.25  # share of redistilled jumps that go the whole way, as samples in one step do
ROUNDING = 1e-9  # of a strength: what is left below it is not another level


@dataclass(frozen=True)
class Run:
    """What a tuning is made of; called with a policy it gives the tuned one.

    Args:
        tuner: Makes the loss of a level.
        reward: What is maximized.
        strength: lambda of the tilt.
        steps: Gradient steps in all, of which a level takes a share in proportion to its strength.
        batch_size: Rows of a step.
        generator: Source of all randomness.
        schedule: How strong the levels are.
        runaway: What ends it where the model runs away.
        recentering: Steps of distillation on a level's own samples after it.
        langevin: Moves these samples first.
        redistillation: Steps of distillation of the tuned velocity into jumps, at the end.
        conditions: To tune for, (C, ...); None for none.
        compile: Whether the network runs under `torch.compile`.
        folder: Where metrics and checkpoints go.
        early_stop: What ends it early.
        options: Of the tuner.
        settings: Of the trainer.
    """

    tuner: type[Tuner]
    reward: Reward
    strength: float
    steps: int
    batch_size: int
    generator: torch.Generator
    schedule: EqualLevels | AdaptiveLevels
    runaway: Runaway
    recentering: int = 0
    langevin: Langevin | None = None
    redistillation: int = 0
    conditions: Tensor | None = None
    compile: bool = False
    folder: Path | None = None
    early_stop: EarlyStop | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, policy: FlowMap) -> FlowMap:
        tuned = self._tilted(policy)
        if self.redistillation:
            tuned = _as_frozen_as(policy, self._redistilled(tuned))
        self.runaway.check(tuned, self.steps)
        return tuned

    def _tilted(self, policy: FlowMap) -> FlowMap:
        tuned, reached, level = policy, 0.0, 0
        while level == 0 or self.strength - reached > ROUNDING * self.strength:
            part = self.schedule.step(
                level, self.strength - reached, tuned, self.reward, self.conditions
            )
            steps = self._due(reached + part) - (self._due(reached) if level else 0)
            reached, level = reached + part, level + 1
            tuned, stopped = self._level(tuned, part, steps, self._place(f"level_{level}"))
            if self.early_stop is not None and stopped:
                return _as_frozen_as(policy, self.early_stop.restore(tuned))
            tuned = _as_frozen_as(policy, tuned)
            if self.recentering:
                place = self._place(f"level_{level}", "recentering")
                tuned = _as_frozen_as(policy, self._recentered(tuned, reached, place))
        return tuned

    def _level(
        self, policy: FlowMap, strength: float, steps: int, folder: Path | None
    ) -> tuple[FlowMap, bool]:
        """The policy tilted by a part of the strength, and whether that was stopped early."""
        trained = student(policy)
        loss = self.tuner(trained, self.reward, strength, generator=self.generator, **self.options)
        trainer = Trainer(
            loss,
            trained,
            partial(_draw, loss, self.batch_size),
            steps=steps,
            generator=self.generator,
            folder=folder,
            options=TrainingOptions(stop=self.early_stop, compile=self.compile, **self.settings),
        )
        average = cast(FlowMap, trainer.average.module.eval())
        trainer.progress = self.runaway.after(average, trainer.progress)
        if self.early_stop is not None and trainer.options.evaluate is not None:
            self.early_stop.begin(policy, trainer.options.evaluate)
        return cast(FlowMap, trainer.run()), trainer.stopped

    def _recentered(self, policy: FlowMap, reached: float, folder: Path | None) -> FlowMap:
        move = None
        if self.langevin is not None:
            move = partial(
                self.langevin,
                reward=self.reward,
                strength=reached,
                decode=policy.decode,
                generator=self.generator,
            )
        return self._distilled(policy, self.recentering, folder, move)

    def _redistilled(self, policy: FlowMap) -> FlowMap:
        folder = None if self.folder is None else self.folder / "redistillation"
        times = UniformTimes(boundary=WHOLE)
        return self._distilled(policy, self.redistillation, folder, teacher=policy, times=times)

    def _distilled(
        self,
        policy: FlowMap,
        steps: int,
        folder: Path | None,
        move: Callable[[Tensor], Tensor] | None = None,
        **options,
    ) -> FlowMap:
        """The policy after so many steps on its own samples."""
        kept = None if folder is None else folder / "samples"
        samples = OwnSamples(policy, self.conditions, self.generator, move, kept)
        settings = {name: value for name, value in self.settings.items() if name != "evaluate"}
        return pretrain(
            policy,
            samples,
            steps=steps,
            batch_size=self.batch_size,
            generator=self.generator,
            folder=folder,
            compile=self.compile,
            **options,
            **settings,
        )

    def _due(self, reached: float) -> int:
        """Gradient steps by the time that so much of the strength is reached."""
        return round(self.steps * reached / self.strength) if self.strength else self.steps

    def _place(self, level: str, *more: str) -> Path | None:
        if self.folder is None:
            return None
        return self.folder.joinpath(*([level] if self.schedule.number > 1 else []), *more)


def _as_frozen_as(policy: FlowMap, tuned: FlowMap) -> FlowMap:
    """Averages take no gradient: what is trained next is what was trained before."""
    for parameter, original in zip(tuned.parameters(), policy.parameters(), strict=True):
        parameter.requires_grad_(original.requires_grad)
    return tuned


def _draw(loss: Tuner, n: int, generator: torch.Generator) -> TensorDictBase:
    # the loss holds the generator that the trainer offers
    return loss.sample_batch(n)
