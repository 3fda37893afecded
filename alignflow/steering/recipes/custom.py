"""Nodes of one's own choice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignflow import checks
from alignflow.settings import option

from ..nodes import Nodes
from ..registry import (
    Choice,
    build_correction,
    build_posterior,
    build_resampler,
    build_transition,
    build_value,
)
from .base import (
    Recipe,
    draws_option,
    particles_option,
    t_max_option,
    t_min_option,
    transition_option,
)

__all__ = ["Custom"]


def _as_corrections(name: str, value: Any) -> tuple[Choice, ...] | None:
    if value is None:
        return None
    if isinstance(value, str | Mapping):
        return (value,)
    return tuple(checks.instance(name, value, Sequence, "a correction, or a sequence of them"))


@dataclass(frozen=True, kw_only=True)
class Custom(Recipe):
    """Nodes of your own choice, each a name or a name with its numbers.

    Names are those of `alignflow.steering.registry`, to which nodes of your own can be added.
    """

    name = "custom"

    posterior: Choice | None = option(None, "what draws endpoints: glass, denoiser, ...")
    value: Choice | None = option(None, "what estimates the value: value, gradient, ...")
    corrections: Sequence[Choice] | None = option(
        None, "of the velocity, in turn: tilt, ramped, drift, ...", _as_corrections
    )
    transition: Choice = transition_option("flow_map")
    resampler: Choice = option("single", "single, best_of_n, importance, search or adaptive")
    particles: int = particles_option(1)
    draws: int = draws_option(1)
    t_min: float = t_min_option(0.0, checks.fraction)
    t_max: float = t_max_option(1.0, checks.fraction)

    def nodes(self, model, tilt):
        posterior, value = self.posterior, self.value
        return Nodes(
            posterior=None if posterior is None else build_posterior(posterior, model, self.draws),
            value=None if value is None else build_value(value, model, tilt),
            corrections=tuple(map(build_correction, self.corrections or ())),
            transition=build_transition(self.transition, model),
            resampler=build_resampler(self.resampler, tilt, self.particles),
            particles=self.particles,
            t_min=self.t_min,
            t_max=self.t_max,
        )
