"""What the command line's commands do. Heavy imports wait inside them."""

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import alignflow as af
from alignflow.by_hydra import by_hydra
from alignflow.interrupts import resumable, terminable
from alignflow.listing import names
from alignflow.overrides import (
    check_chosen,
    explained,
    offer_installed_rewards,
    with_one_strength,
    without_old_arguments,
)

__all__ = [
    "advise",
    "benchmark",
    "check_reward",
    "report",
    "resume",
    "roofline",
    "run",
    "sample",
    "say_errors",
    "show",
    "steer",
]

# what a user can mend; the message of anything else begins with its type
MENDABLE = (ValueError, ImportError, OSError, NotImplementedError, FloatingPointError)


def say_errors(command: Callable[[], int | None]) -> int:
    """Run a command; what its user can mend is told without a traceback. The exit status."""
    try:
        with terminable():
            return command() or 0
    except KeyboardInterrupt as stop:
        said = str(stop) or "stopped"
        print(said, *getattr(stop, "__notes__", ()), sep="\n", file=sys.stderr)
        return 128 + getattr(stop, "signal", signal.SIGINT)
    except Exception as error:
        return _tell(error)


def _tell(error: Exception, words: Sequence[str] = (), config_name: str = "config") -> int:
    """Print an error; the exit status. With HYDRA_FULL_ERROR=1 it is raised, traceback and all."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        raise error
    said = str(error)
    if isinstance(error, FileExistsError):
        said = f"{error.filename} must be a folder, and is a file"
    elif isinstance(error, HydraException):
        said = explained(error, words, config_name)
    elif not said or not isinstance(error, (*MENDABLE, OmegaConfBaseException)):
        said = f"{type(error).__name__}: {said} (HYDRA_FULL_ERROR=1 shows where)"
    print(f"error: {said}", file=sys.stderr)
    return 1


def run(arguments: list[str], check: Callable[[Any, Path], None] | None = None) -> int:
    """Compose a config by Hydra, whose flags all work, and run it.

    Args:
        arguments: Of the command line.
        check: Of a sweep that is resumed, a callable `(config, folder)` that may refuse a run.
    """

    def act(config: Any, folder: Path, command: str) -> None:
        from alignflow import pipeline

        check_chosen(arguments, config)
        if check is not None:
            check(config, folder)
        _say_done(pipeline.run(config, folder, command))

    def start() -> int:
        words = without_old_arguments(with_one_strength(arguments))
        tell = partial(_tell, words=words)
        return by_hydra("run", "config", words, act, tell, resumed=check is not None)

    offer_installed_rewards()
    return say_errors(start)


def benchmark(arguments: list[str]) -> int:
    """Compose a benchmark's config by Hydra and run it."""

    def act(config: Any, folder: Path, command: str) -> None:
        from alignflow.benchmark import run_suite

        print(f"report: {run_suite(config, Path(config.folder), command)}")

    def tell(error: Exception) -> int:
        return _tell(error, arguments, "benchmark")

    return say_errors(lambda: by_hydra("benchmark", "benchmark", arguments, act, tell))


def resume(options: Namespace) -> int:
    """Continue a run, or the runs of a sweep."""
    with resumable(options.folder):
        from alignflow import pipeline, sweeps

        if sweeps.is_sweep_folder(options.folder):
            words = sweeps.words_of(options.folder, options.trust_config)
            return run(words, partial(sweeps.check_trusted, trust_config=options.trust_config))
        _say_done(pipeline.resume(options.folder, options.trust_config))
        return 0


def report(options: Namespace) -> None:
    """Write the report of a run, or of a sweep, anew."""
    from alignflow.pipeline import check_unmixed
    from alignflow.report import build_report, build_sweep_report, is_sweep

    if is_sweep(options.folder):
        build = build_sweep_report
    else:
        build = build_report
    for folder in (Path(options.folder), *Path(options.folder).glob("*/")):
        check_unmixed(folder)
    print(f"report: {build(options.folder)}")


def sample(options: Namespace) -> None:
    """Draw samples and write them as a picture; strings are printed."""
    from alignflow.pictures import check_path

    check_path(options.output)
    policy = af.load(options.policy)
    samples = policy.sample(
        options.n,
        steps=options.steps,
        condition=_condition(options, policy, options.n),
        guidance=options.guidance,
        generator=_generator(options),
        strength=options.strength,
    )
    _show_samples(options, {options.policy: policy.decode(samples)})


def steer(options: Namespace) -> None:
    """Steer a frozen model and write its samples before and after; strings are printed."""
    from alignflow.pictures import check_path
    from alignflow.pipeline import find_reward

    check_path(options.output)
    policy = _at_strength(af.load(options.policy), options.at_strength)
    reward = find_reward(options.reward)
    settings, condition = _steerer(options), _condition(options, policy, options.n)
    if settings["method"] == af.steering.AUTO:
        given = options.condition or options.template or []
        settings["condition"] = _condition(options, policy, len(given))
        settings["generator"] = _generator(options)
    steerer = af.steer(policy, reward, **settings)
    out = steerer.sample(options.n, condition=condition, generator=_generator(options))
    before = policy.sample(
        options.n, steps=steerer.base_steps, condition=condition, generator=_generator(options)
    )
    print(steerer)
    rewards = reward.score(before, condition, policy.decode), out["reward"]
    for title, scored in zip(("before", "after"), rewards, strict=True):
        print(f"{title}: mean reward {scored.mean():.4g}")
    panels = {"before": policy.decode(before), "after": policy.decode(out["state"])}
    _show_samples(options, panels)


def advise(options: Namespace) -> None:
    """Print which method reaches the tilt within the budget, and the command that runs it."""
    import json

    from rich.console import Console

    from alignflow.pipeline import build_condition, find_reward

    numbers = {name: getattr(options, name) for name in ("jumps", "tolerance", "samples")}
    advice = af.advise(
        af.load(options.policy),
        find_reward(options.reward),
        options.strength,
        options.budget,
        condition=build_condition(options.condition, slice(1)),
        generator=_generator(options),
        **numbers,
    )
    more = [] if options.condition is None else ["--condition", str(options.condition)]
    command = advice.command(options.policy, options.reward, *more)
    if options.json:
        print(json.dumps(advice.to_dict() | {"command": command}, indent=2))
        return
    console = Console()
    console.print(advice, soft_wrap=not console.is_terminal)
    print(f"\n{command}")


def check_reward(options: Namespace) -> int:
    """Say what is wrong with a reward; the exit status says whether anything is."""
    from alignflow.pipeline import find_reward

    verdict = af.check_reward(find_reward(options.reward), af.load(options.policy), n=options.n)
    print(verdict)
    return 0 if verdict.ok else 1


def roofline(options: Namespace) -> None:
    """Print what decoding costs, by its arithmetic and on this machine."""
    from alignflow.roofline.command import run

    run(options, _decoding_networks)


def show(options: Namespace) -> None:
    """Print what there is to choose from."""
    from alignflow.listing import KINDS, print_kind, print_options

    if options.name is not None:
        return print_options(options.kind, options.name)
    for kind in [options.kind] if options.kind else KINDS:
        print_kind(kind)


def _show_samples(options: Namespace, panels: dict[str, Any]) -> None:
    """Samples by title: texts in columns, others as a picture."""
    from alignflow.pictures import save_picture

    if not all(isinstance(samples, list) for samples in panels.values()):
        print(save_picture(options.output, panels))
        return
    for row in zip(*panels.values(), strict=True):
        print("\t".join(row))


def _decoding_networks(model: Any, length: int, device: Any) -> Callable[[Any, int], Any]:
    """A causal transformer and a flow map of the same sizes, untrained, as draws of strings."""
    import torch

    from alignflow.roofline import FlowMap

    sizes = {
        "length": length,
        "vocabulary": model.vocabulary,
        "width": model.width,
        "depth": model.layers,
        "heads": model.heads,
    }
    place = {"device": device, "dtype": getattr(torch, model.dtype)}
    causal = af.policies.CausalTransformer(**sizes, end=None).to(**place).eval()
    network = af.policies.TokenDiT(**sizes, likelihood=False).to(**place).eval()
    shape = length, model.vocabulary
    flow_map = af.FlowMapPolicy(network, shape, parametrization="simplex")

    def draw(decoder: Any, batch: int) -> Any:
        if isinstance(decoder, FlowMap):
            return flow_map.sample(batch, steps=decoder.steps).argmax(-1)
        return causal.sample(batch)

    return draw


def _say_done(folder: Path) -> None:
    from alignflow.pipeline import print_summary

    print_summary(folder)


def _generator(options: Namespace):
    from alignflow import checks

    return checks.as_generator(options.seed, "--seed")


def _condition(options: Namespace, policy: Any, n: int):
    from alignflow.pipeline import build_condition, build_template

    rows = slice(n)
    if options.template is None:
        return build_condition(options.condition, rows)
    if options.condition is not None:
        raise ValueError("give --condition or --template, not both")
    return build_template(policy, options.template, rows)


def _at_strength(policy: Any, strength: float | None) -> Any:
    """A policy that was tuned for a range of strengths, at one; another is returned as it is."""
    found = getattr(policy, "strengths", None)
    if strength is None and found is not None:
        raise ValueError(
            f"this model was tuned for strengths {found}: choose one, --at-strength {found.upper:g}"
        )
    if strength is None:
        return policy
    policy.with_strength(None, strength)  # refused by one of a single strength
    return policy.at_strength(strength)


def _steerer(options: Namespace) -> dict[str, Any]:
    """The method's config with what the command line sets."""
    from alignflow import checks
    from alignflow.pipeline import build, compose

    checks.choice("--method", options.method, names("steerer"))
    for option in options.options:
        if not option.partition("=")[0].isidentifier() or "=" not in option:
            raise ValueError(f"--options must be KEY=VALUE, got {option!r}")
    changes = [f"++steerer.{change}" for change in options.options]
    for key, name in (
        ("strength", "strength"),
        ("++steerer.steps", "steps"),
        ("++steerer.particles", "particles"),
    ):
        if getattr(options, name) is not None:
            changes.append(f"{key}={getattr(options, name)}")
    config = compose(f"steerer={options.method}", *changes)
    return {"strength": config.strength, **build(config.steerer)}
