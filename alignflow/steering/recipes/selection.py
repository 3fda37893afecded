"""Selection of samples: of N finished ones, of lookaheads at each step, or of the initial noise."""

from dataclasses import dataclass

from alignflow import checks, resampling
from alignflow.resampling.search import SCOPES
from alignflow.settings import option
from alignflow.values import ValueFunction

from ..nodes import Nodes
from ..noise_ascent import NoiseAscent
from ..registry import Choice, build_posterior, build_transition, build_value
from .base import (
    Recipe,
    draws_option,
    inner_steps_option,
    learned_option,
    particles_option,
    posterior_option,
    transition_option,
)
from .learned import learned

__all__ = ["BestOfN", "Importance", "ReNO", "Search"]

FIRST_VALUE = 1e-3  # time


@dataclass(frozen=True, kw_only=True)
class Search(Recipe):
    """The best of all draws, renoised, and so on (MFM-Search, 2601.14430): ascends.

    At each step every particle draws K endpoints; the one with the highest reward is renoised to
    the next time.
    """

    name = "search"

    particles: int = particles_option(4)
    draws: int = draws_option(4)
    posterior: Choice = posterior_option("stochastic_map")
    inner_steps: int = inner_steps_option()
    scope: str = option(
        "system",
        "whose draws are compared: of a system, or of each particle",
        lambda name, value: checks.choice(name, value, SCOPES),
    )

    def nodes(self, model, tilt):
        return Nodes(
            posterior=build_posterior(
                self.posterior, model, self.draws, inner_steps=self.inner_steps
            ),
            value=build_value("value", model, tilt),
            transition=build_transition("renoise", model),
            resampler=resampling.Search(self.particles, self.scope),
            particles=self.particles,
        )


@dataclass(frozen=True, kw_only=True)
class ReNO(Recipe):
    r"""Ascent on the initial noise, the best of it selected (ReNO, 2406.04312): ascends.

    .. math:: x_0 \leftarrow x_0 + \eta\, \mathrm{clip}\big(\nabla [\lambda r(X_{0,1}(x_0))
        + \beta K(x_0)]\big), \qquad K(x) = (d-1) \log|x| - \tfrac12 |x|^2
    """

    name = "reno"

    iterations: int = option(50, "steps of ascent on the noise", checks.count)
    step_size: float = option(5.0, "eta, per unit of the clipped gradient", checks.positive)
    clip: float = option(0.1, "longest gradient of a step of ascent", checks.positive)
    regularization: float = option(
        0.01, "beta, weight of the log-density of the noise's norm", checks.nonnegative
    )
    transition: Choice = transition_option("flow_map")

    def nodes(self, model, tilt):
        numbers = (self.iterations, self.step_size, self.clip, self.regularization)
        return Nodes(
            posterior=build_posterior("flow_map", model),
            value=build_value("gradient", model, tilt),
            ascent=NoiseAscent(*numbers),
            transition=build_transition(self.transition, model),
        )


@dataclass(frozen=True, kw_only=True)
class BestOfN(Recipe):
    """The best of N samples of the base; any reward.

    With a learned value fewer and fewer go on, those of the highest value (`Pruning`): about half
    the forwards, for the best of those that are left.
    """

    name = "best_of_n"

    particles: int = particles_option(8)
    value: ValueFunction | None = learned_option("a learned value, by which particles are dropped")
    transition: Choice = transition_option("flow_map")

    def nodes(self, model, tilt):
        value = learned("learned", model, tilt, self)
        resampler = resampling.BestOfN(tilt)
        if value is not None:
            resampler = resampling.Pruning(tilt, self.particles)
        return Nodes(
            value=value,
            transition=build_transition(self.transition, model),
            resampler=resampler,
            particles=self.particles,
            # at time 0 all particles have the same value
            t_min=0.0 if value is None else FIRST_VALUE,
        )


@dataclass(frozen=True, kw_only=True)
class Importance(Recipe):
    """One of N samples of the base, drawn by its weight e^{strength r}: exact as N grows."""

    name = "importance"

    particles: int = particles_option(8)
    transition: Choice = transition_option("flow_map")

    def nodes(self, model, tilt):
        return Nodes(
            transition=build_transition(self.transition, model),
            resampler=resampling.Importance(tilt),
            particles=self.particles,
        )
