"""`af.finetune`: a policy in, a tuned policy out, by the name of a method."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch

from alignflow import checks
from alignflow.by_method import by_method
from alignflow.checkpoint import as_folder
from alignflow.conditions import as_rows
from alignflow.flow_map import FlowMap, check_trainable
from alignflow.modes import frozen
from alignflow.progress import watched
from alignflow.reward_module import Reward, as_reward
from alignflow.settings import options as options_of
from alignflow.training import TrainingOptions

from .adjoint_matching import AdjointMatching
from .direct import Direct
from .early_stop import EarlyStop
from .etm import ETM
from .grpo import GRPO
from .itm import ITM
from .langevin import Langevin
from .levels import AdaptiveLevels, EqualLevels
from .mfm import MFM
from .monitor import Monitor
from .run import Run
from .runaway import Runaway
from .tilt import Tilt
from .tuner import Tuner, check_strength
from .weighted import Weighted

__all__ = ["METHODS", "finetune"]

METHODS: dict[str, type[Tuner]] = {
    "direct": Direct,
    "weighted": Weighted,
    "etm": ETM,
    "itm": ITM,
    "tilt": Tilt,
    "mfm": MFM,
    "adjoint_matching": AdjointMatching,
    "grpo": GRPO,
}

# what METHODS holds, for type checkers and editors
Method = Literal[
    "direct", "weighted", "etm", "itm", "tilt", "mfm", "adjoint_matching", "grpo"
]  # fmt: skip
Policy = TypeVar("Policy", bound=FlowMap)

LEARNING_RATE = 3e-4

# the call gives these itself
_TRAINER = [
    name for name in options_of(TrainingOptions) if name not in ("evaluate", "stop", "compile")
]

COMMON = [
    *"levels recentering langevin redistillation folder held_out early_stop target".split(),
    *"evaluate compile".split(),
    *_TRAINER,
]
"""Options of every method."""


def methods() -> dict[Method, str]:
    """Name to one line of every method."""
    lines = {name: (tuner.__doc__ or "").splitlines()[0] for name, tuner in METHODS.items()}
    return cast(dict[Method, str], lines)


@by_method(methods)
@watched
def finetune(
    policy: Policy,
    reward: Any,
    method: Method = "weighted",
    strength: float = 2.0,
    steps: int = 2000,
    batch_size: int = 256,
    generator: torch.Generator | int | None = None,
    *,
    levels: int | EqualLevels | AdaptiveLevels | None = None,
    recentering: int = 0,
    langevin: Langevin | None = None,
    redistillation: int = 0,
    folder: str | Path | None = None,
    held_out: Mapping[str, Any] | None = None,
    early_stop: float | None = None,
    target: Any = None,
    evaluate: Callable[[int, Any], dict[str, float]] | None = None,
    compile: bool = False,
    **options,
) -> Policy:
    """Move a policy towards exp(strength r) times its own law; the one handed in is untouched.

    Args:
        policy: A `FlowMapPolicy` around a network. Where some of its parameters require no
            gradient, only the others are tuned.
        reward: A reward, or any callable as a black box.
        method: A name of `finetune.methods()`.
        strength: lambda of the tilt.
        steps: Gradient steps in all.
        batch_size: Rows of a step.
        generator: Source of all randomness, or a seed.
        levels: Reach the tilt in this many tilts by strength / levels, each of the last one's
            result, where the method can: what a strong tilt needs. `AdaptiveLevels` takes as many
            as keep enough candidates effective. By default as many as the method's own.
        recentering: Steps of distillation after each level on the tuned model's own samples, which
            make its velocity that of their law again (Tilt Matching, 2512.21829).
        langevin: Moves those samples first, by Langevin steps under the density that they should
            have: for a law whose density is known, as of an energy.
        redistillation: Steps at the end that learn the jumps anew, of the tuned velocity held
            constant and on its own samples, by progressive self-distillation: for one or two steps
            out.
        folder: Where metrics and checkpoints go; a run found there is continued.
        held_out: Rewards by name that are not trained on, logged with the monitor's other metrics
            at each checkpoint.
        early_stop: Stop when a held-out reward has fallen by this many standard errors below its
            best, and hand back the model of the checkpoint before.
        target: What has the policy's exact tilt, `target.tilted(reward, strength)`: a closed form,
            or an `Empirical` of the data. The distance to it is logged.
        evaluate: A call of (step, model) -> metrics, which are logged with them.
        compile: Whether the network runs under `torch.compile`.
        **options: Of the method, as its class in `METHODS` has them, or of `Trainer`
            (learning_rate, 3e-4 here, warmup, decay, clip_norm, ema_decay, precision, ...).

    Raises:
        ValueError: If the method or an option is not known, or one would do nothing; if the policy
            has nothing to tune; if the method needs a gradient that the reward does not have.
        RunawayError: If the policy gives what no tilt of it could; see `runaway`.
    """
    strength, steps = check_strength(strength), checks.count("steps", steps)
    batch_size, compile = checks.count("batch_size", batch_size), checks.flag("compile", compile)
    recentering = checks.count("recentering", recentering, least=0)
    redistillation = checks.count("redistillation", redistillation, least=0)
    schedule = _schedule(method, levels, steps)
    _check(policy, method, schedule, steps, options)
    conditions = as_rows(options.get("condition"))
    folder = None if folder is None else as_folder(folder)
    if evaluate is not None:
        checks.called("evaluate", evaluate, "(step, model)")
    _check_watch(folder, held_out, early_stop, target, conditions)
    reward = as_reward(reward)
    generator = checks.as_generator(generator) or torch.Generator().manual_seed(0)
    if langevin is not None:
        _check_langevin(langevin, reward, recentering, conditions)
    settings = {name: options.pop(name) for name in _TRAINER if name in options}
    settings = {"learning_rate": LEARNING_RATE, "evaluate": evaluate} | settings
    stop = None
    # a reward that is a network is followed, never trained
    with frozen(reward):
        if folder is not None:
            tilt = None if target is None else target.tilted(reward, strength)
            monitor = Monitor(policy, reward, held_out, tilt, conditions, also=evaluate)
            settings["evaluate"] = monitor
            if early_stop is not None:
                stop = EarlyStop(folder / "kept", early_stop)
        run = Run(
            METHODS[method],
            reward,
            strength,
            steps,
            batch_size,
            generator,
            schedule,
            Runaway(method, policy, batch_size, conditions),
            recentering,
            langevin,
            redistillation,
            conditions,
            compile,
            folder,
            stop,
            options,
            settings,
        )
        return cast(Policy, run(policy))


def _schedule(
    method: str, levels: int | EqualLevels | AdaptiveLevels | None, steps: int
) -> EqualLevels | AdaptiveLevels:
    checks.choice("method", method, METHODS)
    if isinstance(levels, EqualLevels | AdaptiveLevels):
        return levels
    return EqualLevels(min(METHODS[method].levels, steps) if levels is None else levels)


def _check(
    policy: FlowMap,
    method: str,
    levels: EqualLevels | AdaptiveLevels,
    steps: int,
    options: dict,
) -> None:
    check_trainable(policy, "finetune")
    tuner = METHODS[method]
    own = set(_options(tuner)) - {"base", "generator"}
    if unknown := sorted(set(options) - own - set(_TRAINER)):
        hint = checks.did_you_mean(unknown[0], {*own, *COMMON})
        raise ValueError(
            f"{method} has no option {', '.join(unknown)}; its own are {', '.join(sorted(own))}, "
            f"and those of every method {', '.join(COMMON)}{hint}"
        )
    if {"learning_rate", "optimizer"} <= set(options):
        raise ValueError("learning_rate would do nothing with an optimizer of your own")
    if levels.number > steps:
        raise ValueError(f"levels must lie between 1 and steps={steps}, got {levels.number}")
    if levels.number > 1 and not tuner.takes_levels:
        fit = ", ".join(name for name, other in METHODS.items() if other.takes_levels)
        raise ValueError(
            f"{method} reaches its tilt at once, levels is for {fit}; got {levels.number}"
        )


def _check_watch(
    folder: Path | None,
    held_out: Mapping[str, Any] | None,
    early_stop: float | None,
    target: Any,
    conditions: Any,
) -> None:
    if held_out is not None:
        checks.instance("held_out", held_out, Mapping, "a mapping from names to rewards")
        for name in held_out:
            checks.instance("each name in held_out", name, str, "a text")
    given = {"held_out": held_out or None, "early_stop": early_stop, "target": target}
    idle = [name for name, value in given.items() if value is not None]
    if idle and folder is None:
        raise ValueError(f"{', '.join(idle)} would do nothing without a folder to log to")
    if early_stop is not None:
        checks.positive("early_stop", early_stop)
    if early_stop is not None and not held_out:
        raise ValueError("early_stop needs held_out rewards: it stops when one of them falls")
    if target is not None and conditions is not None:
        raise ValueError("target has one tilt, and a policy with conditions has one for each")
    if target is not None and not hasattr(target, "tilted"):
        raise ValueError(
            "target must have its exact tilt, target.tilted(reward, strength), as those of "
            f"alignflow.targets have; got {checks.shown(target)}"
        )


def _check_langevin(langevin: Any, reward: Reward, recentering: int, conditions: Any) -> None:
    if not isinstance(langevin, Langevin):
        raise ValueError(f"langevin must be a Langevin(law, ...), got {checks.shown(langevin)}")
    if not recentering:
        raise ValueError("langevin would do nothing without recentering: it moves its samples")
    if not reward.differentiable:
        raise ValueError(f"langevin needs a gradient, and reward {reward.name!r} is a black box")
    if conditions is not None:
        raise ValueError("langevin has one law, and a policy with conditions has one for each")


def _options(tuner: type[Tuner]) -> Iterator[str]:
    """Keyword arguments of a tuner, and of what it passes others on to."""
    for kind in tuner.__mro__:
        parameters = inspect.signature(kind.__init__).parameters.values()
        yield from (p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return
