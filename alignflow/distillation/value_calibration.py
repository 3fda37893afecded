r"""Whether a learned value is the log of an expectation: on samples that it has not seen.

.. math:: E[e^{\lambda r(x_1) - V_t(x_t)}] = 1 \quad\text{at each } t \text{ and } \lambda
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from alignflow.draws import normal
from alignflow.interpolants import Linear
from alignflow.metrics import mean
from alignflow.values import ValueFunction

from .scored_samples import ScoredSamples

__all__ = ["TIMES", "calibration"]

TIMES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)
ROWS = 1024  # states of which values are computed at once


@torch.no_grad()
def calibration(
    value: ValueFunction,
    held_out: ScoredSamples,
    generator: torch.Generator,
    times: Sequence[float] = TIMES,
) -> list[dict[str, Any]]:
    """Rows by time, at the largest strength and at half of it.

    Args:
        value: What is judged.
        held_out: Samples that it was not trained on; dropped ones are left out.
        generator: Source of noise.
        times: Of the states.

    Returns:
        Of each: `time`, `strength`; `ratio`, the mean of e^{lambda r - V}, with its standard error
        `ratio_error`; and of V with lambda r the `correlation` and the `explained_variance`, None
        where one of the two is constant.
    """
    most = value.strengths[1]
    strengths = [each for each in (most / 2, most) if each >= value.strengths[0]]
    return [_row(value, held_out, generator, t, strength) for strength in strengths for t in times]


def _row(
    value: ValueFunction,
    held_out: ScoredSamples,
    generator: torch.Generator,
    time: float,
    strength: float,
) -> dict[str, Any]:
    x1 = held_out.states
    t, of = x1.new_full((len(x1),), time), x1.new_full((len(x1),), strength)
    x = Linear().state(normal(x1.shape, generator, x1.dtype, x1.device), x1, t)
    parts = []
    for rows in torch.arange(len(x1)).split(ROWS):
        condition = None if held_out.condition is None else held_out.condition[rows]
        parts.append(value(x[rows], t[rows], of[rows], condition))
    valid = held_out.rewards > -torch.inf
    found = torch.cat(parts)[valid].double()
    exponent = strength * held_out.rewards[valid].double()
    ratio = mean((exponent - found).exp())
    correlation, explained = _agreement(found, exponent)
    return {
        "time": time,
        "strength": strength,
        "ratio": ratio.value,
        "ratio_error": ratio.standard_error,
        "correlation": correlation,
        "explained_variance": explained,
    }


def _agreement(value: Tensor, exponent: Tensor) -> tuple[float | None, float | None]:
    """Correlation, and the fraction of the exponent's variance that the value explains."""
    spread = exponent.var()
    constant = value.var() < 1e-12 * (1 + value.square().mean())
    if spread == 0 or constant:
        return None, None
    correlation = torch.corrcoef(torch.stack([value, exponent]))[0, 1].item()
    explained = 1 - ((exponent - value).var() / spread).item()
    return (correlation if math.isfinite(correlation) else None), explained
