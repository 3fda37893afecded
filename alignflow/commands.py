"""What the command line's commands do. Heavy imports wait inside them."""

import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import alignflow as af

__all__ = [
    "benchmark",
    "check_reward",
    "report",
    "resume",
    "run",
    "sample",
    "say_errors",
    "show",
    "steer",
]

CONFIGS = "alignflow.configs"


def say_errors(command: Callable[[], int | None]) -> int:
    """Run a command; what its user can mend is told without a traceback. The exit status."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    mendable = (ValueError, ImportError, OSError, NotImplementedError, FloatingPointError)
    try:
        return command() or 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (*mendable, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


def run(arguments: list[str]) -> int:
    """Compose a config by Hydra, whose flags all work, and run it."""
    return _by_hydra("run", "config", _leave_old_reward(arguments), _run_job)


def benchmark(arguments: list[str]) -> int:
    """Compose a benchmark's config by Hydra and run it."""
    return _by_hydra("benchmark", "benchmark", arguments, _run_benchmark)


def _by_hydra(
    name: str, config_name: str, arguments: list[str], act: Callable[[Any, str], None]
) -> int:
    import hydra
    from hydra.core.hydra_config import HydraConfig

    flags = [word for word in arguments if word.startswith("--config-")]

    @hydra.main(version_base="1.3", config_path=f"pkg://{CONFIGS}", config_name=config_name)
    def job(config) -> None:
        typed = shlex.join(["alignflow", name, *flags, *HydraConfig.get().overrides.task])
        if status := say_errors(lambda: act(config, typed)):
            sys.exit(status)

    sys.argv = [f"alignflow {name}", *arguments]
    job()
    return 0


def _leave_old_reward(arguments: list[str]) -> list[str]:
    """Where a reward's target is named, take no arguments over from the reward it replaces."""
    named = any(word.lstrip("+").startswith("reward._target_=") for word in arguments)
    chosen = any(word.lstrip("+").startswith("reward=") for word in arguments)
    return ["reward=custom", *arguments] if named and not chosen else arguments


def _run_job(config: Any, command: str) -> None:
    from hydra.core.hydra_config import HydraConfig

    from alignflow import pipeline

    folder = os.path.relpath(HydraConfig.get().runtime.output_dir)
    _say_done(pipeline.run(config, folder, command))


def _run_benchmark(config: Any, command: str) -> None:
    from alignflow.benchmark import run_suite

    print(f"report: {run_suite(config, Path(config.folder), command)}")


def resume(options: Namespace) -> None:
    """Continue a run."""
    from alignflow import pipeline

    _say_done(pipeline.resume(options.folder))


def report(options: Namespace) -> None:
    """Write the report of a run, or of a sweep, anew."""
    from alignflow.report import build_report, build_sweep_report, is_sweep

    build = build_sweep_report if is_sweep(options.folder) else build_report
    print(f"report: {build(options.folder)}")


def sample(options: Namespace) -> None:
    """Draw samples and write them as a picture."""
    from alignflow.pictures import save_picture

    policy = af.load(options.policy)
    samples = policy.sample(
        options.n,
        steps=options.steps,
        condition=_condition(options),
        guidance=options.guidance,
        generator=_generator(options),
    )
    print(save_picture(options.output, {options.policy: policy.decode(samples)}))


def steer(options: Namespace) -> None:
    """Steer a frozen model and write its samples before and after."""
    from alignflow.pictures import save_picture
    from alignflow.pipeline import find_reward

    policy, reward = af.load(options.policy), find_reward(options.reward)
    settings = _steerer(options)
    steerer = af.steer(policy, reward, **settings)
    condition = _condition(options)
    out = steerer.sample(options.n, condition=condition, generator=_generator(options))
    before = policy.sample(
        options.n, steps=steerer.steps, condition=condition, generator=_generator(options)
    )
    print(steerer)
    rewards = reward.score(before, condition, policy.decode), out["reward"]
    for title, scored in zip(("before", "after"), rewards, strict=True):
        print(f"{title}: mean reward {scored.mean():.4g}")
    panels = {"before": policy.decode(before), "after": policy.decode(out["state"])}
    print(save_picture(options.output, panels))


def check_reward(options: Namespace) -> int:
    """Say what is wrong with a reward; the exit status says whether anything is."""
    from alignflow.pipeline import find_reward

    verdict = af.check_reward(find_reward(options.reward), af.load(options.policy), n=options.n)
    print(verdict)
    return 0 if verdict.ok else 1


def show(options: Namespace) -> None:
    """Print what there is to choose from."""
    from alignflow.listing import KINDS, print_kind, print_options

    if options.name is not None:
        return print_options(options.kind, options.name)
    for kind in [options.kind] if options.kind else KINDS:
        print_kind(kind)


def _say_done(folder: Path) -> None:
    page = folder / "report.html"
    print(f"report: {page}" if page.exists() else f"done: {folder}")


def _generator(options: Namespace):
    import torch

    return torch.Generator().manual_seed(options.seed)


def _condition(options: Namespace):
    from alignflow.pipeline import build_condition

    return build_condition(options.condition, slice(options.n))


def _steerer(options: Namespace) -> dict[str, Any]:
    """The method's own config with what the command line sets."""
    from alignflow.pipeline import build, compose

    given = [
        f"{key}={getattr(options, key)}"
        for key in ("strength", "steps", "particles")
        if getattr(options, key) is not None
    ]
    changes = [f"++steerer.{change}" for change in [*given, *options.options]]
    return build(compose(f"steerer={options.method}", *changes).steerer)
