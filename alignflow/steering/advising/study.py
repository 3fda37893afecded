"""A tilt to reach: what is asked, what the pilot knows, and what methods were found to cost."""

from functools import cached_property
from typing import Any

import torch

from alignflow import checks
from alignflow.conditions import count_rows
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.tilt import Tilt
from alignflow.values import ValueFunction

from ..base_steerer import BaseSteerer
from ..building import build_steerer
from ..recipes import Importance, Recipe
from .advice import Row, work
from .pilot import Pilot, Run, run_pilot, run_short

__all__ = ["Study"]

ROWS = 256
"""Through the model at a time, if nothing else is said."""


class Study:
    """What is asked of `advise`, checked; nothing is sampled before `pilot` is asked for.

    Args:
        policy: The model.
        tilt: The tilt.
        budget: The most forwards a sample, a gradient counted as two.
        condition: One for all samples.
        jumps: Of the flow map from noise to a sample of the base.
        tolerance: Distance that counts as reached.
        samples: Of the base that the pilot scores; short runs are of a quarter as many.
        value: A learned value, if there is one.
        guidance: Of classifier-free guidance.
        micro_batch_size: Rows that go through the model at a time.
        generator: Source of all randomness, or its seed.

    Attributes:
        rows: Of the methods that were estimated so far.

    Raises:
        ValueError: If a number is out of range, or the budget is less than a sample of the base.
    """

    def __init__(
        self,
        policy: FlowMap,
        tilt: Tilt,
        budget: int,
        *,
        condition: Any = None,
        jumps: int = 4,
        tolerance: float = 0.05,
        samples: int = 1024,
        value: ValueFunction | None = None,
        guidance: float = 1.0,
        micro_batch_size: int | None = None,
        generator: torch.Generator | int | None = None,
    ):
        check_flow_map("policy", policy)
        self.policy, self.tilt, self.condition = policy, _checked_tilt(tilt), condition
        self.budget = checks.count("budget", budget)
        self.tolerance = checks.fraction("tolerance", tolerance, zero=False, one=False)
        self.samples = checks.count("samples", samples, least=64)
        self.value = value
        if value is not None:
            checks.instance("value", value, ValueFunction, "a learned value, af.learn_value(...)")
        if condition is not None and (rows := count_rows(condition)) not in (None, 1):
            raise ValueError(f"condition must be one for all samples, got {rows} of them")
        rows = ROWS if micro_batch_size is None else micro_batch_size
        self._shared: dict[str, Any] = {"guidance": guidance, "micro_batch_size": rows}
        self._generator = checks.as_generator(generator)
        self.rows: list[Row] = []
        jumps = checks.count("jumps", jumps)
        self._base = self.steerer(Importance(particles=1), jumps)
        if (least := self._base.cost.nfe) > self.budget:
            raise ValueError(
                f"budget={budget} is less than a sample of the base, which takes {least} forwards "
                f"in jumps={jumps}"
            )

    @cached_property
    def pilot(self) -> Pilot:
        """Scored samples of the base."""
        return run_pilot(self._base, self.samples, self.condition, self._generator)

    @property
    def limit(self) -> int:
        """The most forwards of a sample of a short run."""
        cheapest = [row.needed for row in self.rows if row.needed is not None and not row.biased]
        return min([self.budget, *(2 * needed for needed in cheapest)])

    def steerer(self, recipe: Recipe, steps: int) -> BaseSteerer:
        """Of a method."""
        return build_steerer(self.policy, self.tilt, recipe, steps, **self._shared)

    def work(self, recipe: Recipe, steps: int) -> int:
        """Forwards of a sample, a gradient counted as two."""
        return work(self.steerer(recipe, steps).cost)

    def run(self, steerer: BaseSteerer) -> Run:
        """A short run of a steerer."""
        return run_short(steerer, self.samples // 4, self.condition, self._generator)

    def check(self, steerer: BaseSteerer) -> Run:
        """A run of as many samples as the pilot has."""
        return run_short(steerer, self.samples, self.condition, self._generator)


def _checked_tilt(tilt: Tilt) -> Tilt:
    if not tilt.strength > 0:
        raise ValueError(f"strength must be above 0, got {tilt.strength:g}: at 0 nothing is tilted")
    return tilt
