"""`af.finetune`: a policy in, a tuned policy out."""

from collections.abc import Mapping
from dataclasses import MISSING, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import torch

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.reward_module import Reward
from alignflow.settings import Option, from_options, options
from alignflow.strengths import as_range
from alignflow.tilt import DefaultStrength, as_tilt
from alignflow.trainable import check_trainable
from alignflow.training import Training, TrainingOptions, Trains

from .problem import Problem
from .registry import METHODS, MethodName, method_options, methods, name_of
from .runs.early_stop import EarlyStop
from .runs.monitor import Monitor
from .runs.options import RunOptions
from .runs.run import Run
from .runs.runaway import Runaway
from .tuner import Method, check_reward

__all__ = ["finetune", "keywords"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Policy = TypeVar("Policy", bound=FlowMap)

LEARNING_RATE = 3e-4

PROBLEM = ("condition", "guidance")
RUN = [name for name in options(RunOptions) if name not in ("steps", "batch_size")]
TRAINING = [name for name in options(TrainingOptions) if name != "stop"]
COMMON = (*PROBLEM, *RUN, *TRAINING)
"""Options of every method."""
OF_PIPELINE = ("folder", "held_out", "evaluate", "stop", "progress", "meter")
SHARED = ("precision", "compile")  # which a config states for all stages, and perhaps for this one


class _Finetune(Trains[Arguments, Result]):
    """The call `finetune`, with `build`, `methods()` and `options(method)`."""

    def methods(self) -> dict[MethodName, str]:
        """Every method by name, with one line about it."""
        return methods()

    def options(self, method: MethodName | type[Method]) -> dict[str, Option]:
        """Options of a method, by name: `(type, default, meaning)`."""
        return method_options(method)


@_Finetune
def finetune(
    policy: Policy,
    reward: Any,
    method: MethodName | Method = "weighted",
    strength: float | tuple[float, float] = DefaultStrength(2.0),
    steps: int = 2000,
    batch_size: int = 256,
    generator: torch.Generator | int | None = None,
    **given: Any,
) -> Training[Policy]:
    """Move a policy to the tilt exp(strength r) of its distribution; the one given is untouched.

    Args:
        policy: A `FlowMapPolicy` around a network. Where some of its parameters require no
            gradient, only the others are tuned.
        reward: A reward, or any callable as a black box; or a `Tilt`, which has its strength.
        method: A name of `finetune.methods()`, or a value such as `TiltMatching(pool=8192)`.
        strength: lambda of the tilt exp(lambda r), per unit of reward, of a reward without one. A
            pair, the least and the largest, gives a policy whose strength is chosen at sampling,
            `tuned.sample(n, strength=...)`, by the methods weighted and tilt.
        steps: Gradient steps in all.
        batch_size: Rows of a step.
        generator: Source of all randomness, or a seed.
        **given: Options of the problem (condition, guidance; see `Problem`), of a method that is
            given by name (`finetune.options(method)`), of the run (annealing_stages, recentering,
            folder, held_out, early_stop, ...; see `RunOptions`), or of the training
            (learning_rate, 3e-4 here, warmup, precision, ...; see `TrainingOptions`).

    Raises:
        ValueError: If the method or an option is not known, or one would do nothing; if the policy
            has nothing to tune; if the method needs a gradient that the reward does not have.
        RunawayError: If the policy diverges; see `runaway`.
    """
    start = check_trainable(policy, "finetune")
    strengths = as_range(strength)
    tilt = as_tilt(reward, cast(float, strength) if strengths is None else strengths.upper)
    run = RunOptions(**{name: given[name] for name in RUN if name in given}, steps=steps,
                     batch_size=batch_size)  # fmt: skip
    chosen, name = _method(method, given)
    training = _training(given)
    if strengths is not None:
        _check_range(chosen, name, run)
    problem = Problem(
        policy if strengths is None else start.with_strengths(strengths),
        tilt,
        None if strengths is None else policy,
        strengths=strengths,
        generator=checks.as_generator(generator) or torch.Generator().manual_seed(0),
        **{key: given[key] for key in PROBLEM if key in given},
    )
    _check(problem, chosen, name, run)
    early_stop = None
    if run.folder is not None:
        training = replace(training, evaluate=_monitor(problem, run, training))
    if run.early_stop is not None:
        # the name of earlier versions, whose runs are continued
        early_stop = EarlyStop(cast(Path, run.folder) / "kept", run.early_stop)
    most = None if strengths is None else strengths.upper
    runaway = Runaway(name, problem.policy, run.batch_size, problem.condition, most)
    built = Run(problem, chosen, run, training, runaway, early_stop)
    return cast(Training[Policy], built)


def _method(method: str | Method, given: Mapping[str, Any]) -> tuple[Method, str]:
    """The method, with its options where it is given by name, and its name."""
    extra = {name: value for name, value in given.items() if name not in COMMON}
    if isinstance(method, Method):
        if extra:
            raise ValueError(
                f"{', '.join(extra)} beside a method that has its options: say it there, as "
                f"{type(method).__name__}({', '.join(f'{key}=...' for key in extra)}); options of "
                f"every method are {', '.join(COMMON)}"
            )
        return method, name_of(method)
    checks.choice("method", method, METHODS)
    known = options(METHODS[method])
    if unknown := sorted(set(extra) - set(known)):
        hint = checks.did_you_mean(unknown[0], [*known, *COMMON])
        raise ValueError(
            f"{method} has no option {', '.join(unknown)}; its own are {', '.join(sorted(known))}, "
            f"and those of every method {', '.join(COMMON)}{hint}"
        )
    return from_options(METHODS[method], extra, method), method


def _check_range(method: Method, name: str, run: RunOptions) -> None:
    """Refuse what does not go together with a range of strengths."""
    if not method.takes_strengths:
        fit = ", ".join(other for other, kind in METHODS.items() if kind.takes_strengths)
        raise ValueError(f"{name} tunes for one strength; a range of them is for {fit}")
    for option in ("annealing_stages", "recentering", "redistillation"):
        if getattr(run, option):
            raise ValueError(f"{option} is for one strength, and this tuning is for a range")


def _training(given: Mapping[str, Any]) -> TrainingOptions:
    rate = given.get("learning_rate", LEARNING_RATE)
    if given.get("optimizer") is not None and rate != LEARNING_RATE:
        raise ValueError("learning_rate would do nothing with an optimizer of your own")
    chosen: dict[str, Any] = {"learning_rate": LEARNING_RATE}
    return TrainingOptions(**chosen | {name: given[name] for name in TRAINING if name in given})


def _monitor(problem: Problem, run: RunOptions, training: TrainingOptions) -> Monitor:
    tilt = problem.tilt
    exact = None if run.target is None else run.target.tilted(tilt.reward, tilt.strength)
    return Monitor(
        problem.policy,
        tilt.reward,
        run.held_out,
        exact,
        problem.condition,
        also=training.evaluate,
        strength=None if problem.strengths is None else problem.strengths.upper,
    )


def _check(problem: Problem, method: Method, name: str, run: RunOptions) -> None:
    """Refuse what does not go together."""
    tokens = problem.policy.prediction.is_logits
    black_box = [
        other
        for other, kind in METHODS.items()
        if kind.takes_black_box and (tokens or not kind.needs_logits)
    ]
    instead = f", or use one of {', '.join(black_box)}"
    check_reward(name, method, problem.tilt.reward, instead)
    stages = run.annealing_stages
    if stages is not None and cast(Any, stages).number > 1 and not method.takes_stages:
        fit = ", ".join(other for other, kind in METHODS.items() if kind.takes_stages)
        raise ValueError(
            f"{name} reaches its tilt at once, annealing_stages is for {fit}; "
            f"got {cast(Any, stages).number}"
        )
    if run.langevin is not None:
        _check_langevin(problem.tilt.reward, problem.condition)
    if run.target is not None and problem.condition is not None:
        raise ValueError("target has one tilt, and a policy with conditions has one for each")
    if run.target is not None and not hasattr(run.target, "tilted"):
        raise ValueError(
            "target must have its exact tilt, target.tilted(reward, strength), as those of "
            f"alignflow.targets have; got {checks.shown(run.target)}"
        )


def _check_langevin(reward: Reward, condition: Any) -> None:
    if not reward.differentiable:
        raise ValueError(f"langevin needs a gradient, and reward {reward.name!r} is a black box")
    if condition is not None:
        raise ValueError(
            "langevin has one distribution, and a policy with conditions has one for each"
        )


def keywords(method: MethodName) -> dict[str, Option]:
    """What a config may say of a tuning by a method: arguments of `finetune`, and its options.

    Raises:
        ValueError: If there is no such method.
    """
    found = {"strength": Option(float, 2.0, "lambda of the tilt, per unit of reward")}
    found |= options(RunOptions) | options(TrainingOptions) | method_options(method)
    found |= {
        "condition": Option(Any, None, "one to tune for, or several"),
        "guidance": Option(float, 1.0, "scale of classifier-free guidance"),
        "learning_rate": found["learning_rate"]._replace(default=LEARNING_RATE),
    }
    found |= {name: found[name]._replace(default=MISSING) for name in SHARED}
    return {name: each for name, each in found.items() if name not in OF_PIPELINE}
