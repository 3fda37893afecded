"""Samples of a model with their rewards and cost, batch by batch, each saved once drawn."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alignflow.checkpoint import is_saved, load_folder, save_folder
from alignflow.cost import MeteredSampler, metered
from alignflow.flow_map import FlowMap
from alignflow.metrics import effective_sample_size
from alignflow.reward_module import RewardError
from alignflow.steering import AUTO, BaseSteerer, steer

from .auto import chosen, dry_run_auto, method_name
from .build import build
from .context import Context
from .display import progress_bar, say_estimate
from .settings import ConfigError

__all__ = [
    "COSTS",
    "build_beside",
    "build_steerer",
    "draw_in_batches",
    "dry_run_steerer",
    "sample_model",
    "sample_steered",
    "valid_rewards",
]

COUNTS = ("nfe", "vjps", "reward_calls", "reward_vjps")
COSTS = (*COUNTS, "seconds")


def draw_in_batches(
    context: Context,
    folder: Path,
    n: int,
    draw: Callable[[slice, torch.Generator], dict[str, Tensor]],
    title: str,
) -> dict[str, Tensor]:
    """Draw n samples, joined: tensors (n, ...) by name, with `seconds` of each added.

    Batches found in the folder are not drawn again, and batch i draws from generator i whoever
    draws it, so a killed run goes on to the same samples, and models share their noise.

    Args:
        context: Of the run.
        folder: Where the batches are saved.
        n: Number of samples.
        draw: A callable `(rows, generator)` that draws these rows: tensors (count, ...) by name.
        title: Of the progress bar.
    """
    size = context.config.evaluation.batch_size
    starts = range(0, n, size)
    drawn = []
    with progress_bar(title) as progress:
        for index, start in enumerate(starts):
            path = folder / f"{index:05d}"
            if not is_saved(path):
                rows = slice(start, min(start + size, n))
                began = time.perf_counter()
                with torch.no_grad(), context.autocast():
                    batch = draw(rows, context.sample_generator(index))
                seconds = time.perf_counter() - began
                count = rows.stop - rows.start
                batch["seconds"] = torch.full((count,), seconds / count)
                # a dropped sample has the reward -inf
                save_folder(path, batch, {}, allow_nonfinite=True)
                if index == 0 and len(starts) > 1:
                    say_estimate(title, seconds * len(starts), context.config.device)
            drawn.append(load_folder(path, allow_nonfinite=True)[0])
            progress(index + 1, len(starts), {})
    return {name: torch.cat([batch[name] for batch in drawn]) for name in drawn[0]}


def sample_model(
    context: Context, policy: FlowMap, n: int, folder: Path, title: str
) -> dict[str, Tensor]:
    """n samples of a model by its jumps, or the run's sampler: `state`, `reward`, and costs."""
    steps = context.config.evaluation.steps
    sampler = None if context.sampler is None else MeteredSampler(context.sampler)

    def draw(rows: slice, generator: torch.Generator) -> dict[str, Tensor]:
        condition, count = context.condition(rows), rows.stop - rows.start
        with metered() as meter:
            states = policy.sample(
                count, steps=steps, condition=condition, generator=generator, sampler=sampler
            )
        nfe = steps if sampler is None else meter.total.nfe // count
        reward = context.reward.score(states, condition, policy.decode)
        # the reward only judges here, so it is no part of what a sample costs
        cost = dict.fromkeys(COUNTS, torch.zeros(count)) | {"nfe": torch.full((count,), nfe)}
        return {"state": states, "reward": reward, **cost}

    return draw_in_batches(context, folder, n, draw, title)


def build_beside(context: Context, policy: FlowMap) -> dict[str, BaseSteerer]:
    """The steerers that the run's own is shown beside, by name."""
    nodes = context.config.get("beside") or {}
    return {str(name): steer(policy, context.tilt, **build(nodes[name])) for name in nodes}


def build_steerer(context: Context, policy: FlowMap, value: Any = None) -> BaseSteerer:
    """The steerer that the config describes, of a policy and perhaps a value that the run learned.

    Raises:
        ConfigError: If the config names a value besides.
    """
    options = _options(context, value)
    if options["method"] == AUTO:
        options = chosen(context, policy, options)
    return steer(policy, context.tilt, **options)


def dry_run_steerer(context: Context, policy: FlowMap, value: Any = None) -> None:
    """Refuse what `build_steerer` would refuse, without a sample."""
    options = _options(context, value)
    if options["method"] == AUTO:
        dry_run_auto(context, policy, options)
    else:
        steer(policy, context.tilt, **options)


def _options(context: Context, value: Any) -> dict[str, Any]:
    options = build(context.config.steerer)
    if value is not None:
        if options.get("value") is not None:
            raise ConfigError(
                "steerer.value is set, and the stage learn_value learns one: drop one of the two"
            )
        options["value"] = value
    return options


def sample_steered(
    context: Context, steerer: BaseSteerer, folder: Path | None = None, name: str = ""
) -> dict[str, Tensor]:
    """The steered samples of the run: `state`, `reward`, the cost of each, and the effective
    sample size of its particles where there are several, `particle_ess`.

    Args:
        context: Of the run.
        steerer: The run's own, or another beside it.
        folder: Where the batches are saved; that of the run's own steerer if None.
        name: Of the steerer; that of the run's own likewise.
    """

    def draw(rows: slice, generator: torch.Generator) -> dict[str, Tensor]:
        condition, count = context.condition(rows), rows.stop - rows.start
        out = steerer.sample(count, condition=condition, generator=generator)
        cost = {name: torch.as_tensor(out[name]).expand(count) for name in COUNTS}
        log_weight = out["particles", "log_weight"]
        several = log_weight.shape[1] > 1
        ess = {"particle_ess": effective_sample_size(log_weight)} if several else {}
        return {"state": out["state"], "reward": out["reward"], **cost, **ess}

    return draw_in_batches(
        context,
        context.folder.stage("steer") / "batches" if folder is None else folder,
        context.config.evaluation.samples,
        draw,
        f"steer by {name or method_name(context)}",
    )


def valid_rewards(rewards: Tensor, model: str) -> Tensor:
    """Of the rewards (N,) of a model's samples, those of samples that the reward did not drop.

    Raises:
        RewardError: If they are fewer than two, so that no mean has an error.
    """
    valid = rewards[rewards > -math.inf]
    if len(valid) < 2:
        raise RewardError(
            f"the reward drops all but {len(valid)} of the {len(rewards)} samples of {model}, and "
            "a mean needs two: draw more, or drop fewer"
        )
    return valid
