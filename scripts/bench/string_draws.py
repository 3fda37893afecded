"""Tokens drawn by a flow map in some steps, by the baselines and from the data, and stored."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from alignflow.data import Strings
from alignflow.distillation import DecodingTimes
from alignflow.flow_map import FlowMap
from alignflow.samplers import DenoiserODE, TokenDraws

sys.path.append(str(Path(__file__).parents[1] / "baselines"))
from masked import ORDERS

__all__ = ["STEPS", "Method", "data_rows", "drawn", "methods"]

STEPS = (1, 2, 4, 8)
MANY = 64  # denoisers of the ODE, and of tokens drawn and noised again
BATCH = 500


@dataclass(frozen=True)
class Method:
    """How tokens (n, L) are drawn, and in how many forwards; none is of the data."""

    draw: Callable[[int, torch.Generator], Tensor]
    forwards: int | None = None


def methods(policy: FlowMap, models: dict[str, Any], strings: Strings) -> dict[str, Method]:
    """Everything that is compared, by name.

    Args:
        policy: The flow map.
        models: The baselines by kind.
        strings: The data, whose draws are the floor.
    """
    found = {"data": Method(partial(data_rows, strings))}
    for steps in STEPS:
        found[f"flow map, {_steps(steps)}"] = Method(
            partial(_flow, policy, steps, None, False), steps
        )
    for steps in STEPS[1:]:
        name = f"flow map, {_steps(steps)}, times by decoding"
        found[name] = Method(partial(_flow, policy, steps, None, True), steps)
    found["its ODE"] = Method(partial(_flow, policy, MANY // 2, DenoiserODE(), True), MANY)
    for steps in (STEPS[-1], MANY):
        name = f"its tokens drawn and noised again, {_steps(steps)}"
        found[name] = Method(partial(_flow, policy, steps, TokenDraws(), True), steps)
    for order in ORDERS:
        for steps in (*STEPS, strings.length):
            # in one step, and one by one at random, the order of tokens is no choice
            if order == ORDERS[0] or steps not in (1, strings.length):
                how = "" if steps == 1 else f", by {order}" if order != ORDERS[0] else ", at random"
                draw = partial(_masked, models["masked"], steps, order)
                found[f"masked diffusion, {_steps(steps)}{how}"] = Method(draw, steps)
    found["autoregressive"] = Method(models["autoregressive"].sample, strings.length)
    return found


def data_rows(strings: Strings, n: int, generator: torch.Generator) -> Tensor:
    """Tokens of n strings, drawn by weight."""
    return strings.tokens[strings.draw(n, generator)].long()


def drawn(path: Path, method: Method, n: int) -> Tensor:
    """n rows of tokens, drawn in batches or stored before."""
    if path.exists():
        return torch.load(path, weights_only=True)
    parts = []
    for start in track(range(0, n, BATCH), path.stem):
        generator = torch.Generator().manual_seed(start)
        parts.append(method.draw(min(BATCH, n - start), generator).cpu())
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(torch.cat(parts), path)
    return torch.cat(parts)


def _flow(
    policy: FlowMap, steps: int, sampler: Any, by_decoding: bool, n: int, generator: torch.Generator
) -> Tensor:
    grid = None
    if by_decoding:
        # times at which equal parts of the tokens are decoded
        decoded = torch.arange(1, steps, dtype=torch.float64) / steps
        times = DecodingTimes(policy.event_shape[-1]).time(decoded)
        grid = [0.0, *times.tolist(), 1.0]
    states = policy.sample(n, steps, grid=grid, generator=generator, sampler=sampler)
    return states.argmax(-1)


def _masked(model: Any, steps: int, order: str, n: int, generator: torch.Generator) -> Tensor:
    return model.sample(n, steps, generator, order=order)


def _steps(steps: int) -> str:
    return f"{steps} step{'s' if steps > 1 else ''}"
