"""One tuning from its base to its tilt: annealing stages, recentering, redistillation."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from tensordict import TensorDictBase
from torch import Tensor

from alignflow.distillation import UniformTimes, pretrain, student
from alignflow.finetuning.problem import Problem, unguided
from alignflow.finetuning.tuner import Method, Tuner
from alignflow.flow_map import FlowMap
from alignflow.modes import frozen
from alignflow.tilt import Tilt
from alignflow.training import Trainer, TrainingOptions

from .annealing import EqualStages
from .early_stop import EarlyStop
from .model_samples import ModelSamples
from .options import RunOptions, Stages
from .runaway import Runaway

__all__ = ["Run"]

WHOLE = 0.25  # fraction of redistilled jumps over all times, as samples in one step take
ROUNDING = 1e-9  # of a strength: what is left below it is not another stage


class Run:
    """A tuning before it runs: its first stage is built, and nothing is drawn, read or written.

    Args:
        problem: What is tuned, and where to.
        method: How.
        options: How long, in which stages, and where it is logged.
        training: Of the optimizer and what is logged.
        runaway: Ends it where the model diverges.
        early_stop: Ends it early.
    """

    def __init__(
        self,
        problem: Problem,
        method: Method,
        options: RunOptions,
        training: TrainingOptions,
        runaway: Runaway,
        early_stop: EarlyStop | None = None,
    ):
        self.problem, self.method = problem, method
        self.options, self.training = options, replace(training, stop=early_stop)
        self.runaway, self.early_stop = runaway, early_stop
        self.stages = stages_of(method, options)
        # what the first stage refuses is refused here, before anything is drawn or written
        self._state = problem.generator.get_state()
        self._least = problem.tilt.strength / self.stages.number
        with frozen(problem.tilt.reward):
            self._first: Trainer | None = self._trainer(1, problem.policy, 0.0, self._least)

    def run(self) -> FlowMap:
        """Tune; once. The tuned policy."""
        # a reward that is a network is followed, never trained
        with frozen(self.problem.tilt.reward):
            tuned = self._tilted()
            if self.options.redistillation:
                tuned = _as_frozen_as(self.problem.policy, self._redistilled(tuned))
            self.runaway.check(tuned, self.options.steps)
        return unguided(tuned)

    def _tilted(self) -> FlowMap:
        tilt, policy = self.problem.tilt, self.problem.policy
        tuned, reached, stage = policy, 0.0, 0
        while stage == 0 or tilt.strength - reached > ROUNDING * tilt.strength:
            left = Tilt(tilt.reward, tilt.strength - reached)
            part = self.stages.strength(stage, left, tuned, self.problem.condition)
            stage += 1
            trainer = self._first_trainer(part) or self._trainer(stage, tuned, reached, part)
            reached += part
            if self.early_stop is not None and self.training.evaluate is not None:
                self.early_stop.begin(tuned, self.training.evaluate)
            tuned = cast(FlowMap, trainer.run())
            if self.early_stop is not None and trainer.stopped:
                return _as_frozen_as(policy, self.early_stop.restore(tuned))
            tuned = _as_frozen_as(policy, tuned)
            if self.options.recentering:
                place = self._place(stage, "recentering")
                tuned = _as_frozen_as(policy, self._recentered(tuned, reached, place))
        return tuned

    def _first_trainer(self, strength: float) -> Trainer | None:
        """The trainer that was built, once, where the first stage is as strong as was assumed."""
        first, self._first = self._first, None
        if first is not None and strength != self._least:
            self.problem.generator.set_state(self._state)
            return None
        return first

    def _trainer(self, stage: int, policy: FlowMap, reached: float, strength: float) -> Trainer:
        """What tilts the policy, from the strength that was reached, by a part of it."""
        steps = self._due(reached + strength) - (self._due(reached) if reached else 0)
        trained = student(policy)
        tilt = Tilt(self.problem.tilt.reward, strength)
        loss = self.method.bind(replace(self.problem, policy=trained, tilt=tilt))
        then = self.training.progress

        def progress(step: int, steps: int, metrics: dict[str, float]) -> None:
            self.runaway.watch(cast(FlowMap, trainer.average.module), step)
            if then is not None:
                then(step, steps, metrics)

        trainer = Trainer(
            loss,
            trained,
            partial(_draw, loss, self.options.batch_size),
            steps=steps,
            generator=self.problem.generator,
            folder=self._place(stage),
            options=replace(self.training, progress=progress),
        )
        loss.follow(cast(FlowMap, trainer.average.module))
        return trainer

    def _recentered(self, policy: FlowMap, reached: float, folder: Path | None) -> FlowMap:
        move = None
        if self.options.langevin is not None:
            move = partial(
                self.options.langevin,
                tilt=Tilt(self.problem.tilt.reward, reached),
                decode=policy.decode,
                generator=self.problem.generator,
            )
        return self._distilled(policy, self.options.recentering, folder, move)

    def _redistilled(self, policy: FlowMap) -> FlowMap:
        folder = None if self.folder is None else self.folder / "redistillation"
        times = UniformTimes(boundary=WHOLE)
        steps = self.options.redistillation
        return self._distilled(policy, steps, folder, teacher=policy, times=times)

    def _distilled(
        self,
        policy: FlowMap,
        steps: int,
        folder: Path | None,
        move: Callable[[Tensor], Tensor] | None = None,
        **options: Any,
    ) -> FlowMap:
        """The policy after so many steps on its samples."""
        place = None if folder is None else folder / "samples"
        generator = self.problem.generator
        samples = ModelSamples(policy, self.problem.condition, generator, move, place)
        training = replace(self.training, evaluate=None, stop=None)
        return pretrain(
            policy,
            samples,
            steps=steps,
            batch_size=self.options.batch_size,
            generator=generator,
            folder=folder,
            **options,
            **{name: getattr(training, name) for name in training.__dataclass_fields__},
        )

    def _due(self, reached: float) -> int:
        """Gradient steps by the time that so much of the strength is reached."""
        strength, steps = self.problem.tilt.strength, self.options.steps
        return round(steps * reached / strength) if strength else steps

    @property
    def folder(self) -> Path | None:
        """Where metrics and checkpoints go."""
        return cast(Path | None, self.options.folder)

    def _place(self, stage: int, *more: str) -> Path | None:
        if self.folder is None:
            return None
        # the name of earlier versions, whose runs are continued
        return self.folder.joinpath(*([f"level_{stage}"] if self.stages.number > 1 else []), *more)


def stages_of(method: Method, options: RunOptions) -> Stages:
    """The annealing stages of a run, by default as many as the method's.

    Raises:
        ValueError: If the method cannot take them, or there are more than steps.
    """
    stages, steps = options.annealing_stages, options.steps
    if stages is None:
        return EqualStages(min(method.stages, steps))
    assert not isinstance(stages, int)
    if stages.number > steps:
        raise ValueError(
            f"annealing_stages must lie between 1 and steps={steps}, got {stages.number}"
        )
    return stages


def _as_frozen_as(policy: FlowMap, tuned: FlowMap) -> FlowMap:
    """Averages take no gradient: what is trained next is what was trained before."""
    for parameter, original in zip(tuned.parameters(), policy.parameters(), strict=True):
        parameter.requires_grad_(original.requires_grad)
    return tuned


def _draw(loss: Tuner, n: int, generator: Any) -> TensorDictBase:
    # the loss holds the generator that the trainer offers
    return loss.sample_batch(n)
