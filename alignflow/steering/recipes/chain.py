r"""Markov chains over finished samples: the base's density cancels, and any reward will do.

.. math:: \pi(x) \propto e^{\lambda r(x)} \rho_1(x)

A proposal that is reversible for the base is accepted by the ratio of e^{lambda r} alone, so that
the tilt is invariant for one particle, and what a chain ends in tends to it as steps grow.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from alignflow import checks
from alignflow.posteriors import FlowMapPosterior, Posterior
from alignflow.settings import option, optional

from ..chains import Acceptance, Adaptation, ChainNodes, Noising
from ..defaults import default_posterior
from ..registry import Choice, build_kernel, build_population, build_posterior, build_value
from .base import Recipe, draws_option, inner_steps_option, inside, solver_option

__all__ = ["ChainRecipe", "SourceMCMC", "Waltz"]


@dataclass(frozen=True, kw_only=True)
class ChainRecipe(Recipe):
    """A method whose nodes are those of a chain; its steps are steps of the chain."""

    default_steps: ClassVar[int | None] = 32

    particles: int = option(1, "M of each system, which interact as a population", checks.count)
    population: Choice = option(
        "exchange",
        "exchange: replicas at strengths from 0 to the tilt's, which exchange samples; tempering: "
        "particles weighted and resampled as the strength rises",
    )

    def nodes(self, model, tilt) -> ChainNodes:
        """The nodes of the chain, with its population."""
        chain = self.chain(model, tilt)
        if self.particles == 1 and self.population == "exchange":
            return chain
        population = build_population(self.population, tilt, self.particles, chain.carries)
        return replace(chain, population=population)

    def chain(self, model, tilt) -> ChainNodes:
        """The nodes of a chain of one particle."""
        raise NotImplementedError


def _earliest(name: str, value: float) -> float:
    return checks.fraction(name, value, one=False)


@dataclass(frozen=True, kw_only=True)
class Waltz(ChainRecipe):
    r"""A chain by noising and posterior draws (Diffusion waltz, 2610.09407): exact as steps grow.

    .. math:: x_t = t\,x_1 + (1-t)\,\epsilon, \quad x_1' \sim p(x_1 | x_t), \quad
        \text{accepted with } \min(1, e^{\lambda (r(x_1') - r(x_1))})

    t is drawn anew from (t_min, t_max) for each move: small times make long moves, that reach other
    modes, and late ones short moves. Exact as far as the draws are those of the posterior: a point
    is refused, and weighted draws (renoised) are exact as draws grow. Of several draws one is
    chosen by its weight e^{lambda r} (multiple-try Metropolis).
    """

    name = "waltz"

    posterior: Choice | None = option(
        None, "what draws endpoints; the stochastic map if there is one, else glass, if None"
    )
    draws: int = draws_option(1)
    inner_steps: int = inner_steps_option()
    solver: str = solver_option()
    t_min: float = option(0.0, "earliest time that a sample is noised to", _earliest)
    t_max: float = option(0.9, "latest time that a sample is noised to", inside)
    acceptance: float | None = option(
        None,
        "fraction of moves to accept, to which times are adapted in the first half of the steps",
        optional(inside),
    )
    jumps: int = option(4, "jumps of the flow map from noise to the first sample", checks.count)

    def __post_init__(self):
        super().__post_init__()
        if self.t_min >= self.t_max:
            raise ValueError(f"t_min must be below t_max, got {self.t_min} and {self.t_max}")

    def chain(self, model, tilt):
        posterior = self.posterior or default_posterior(model)
        numbers = {"inner_steps": self.inner_steps, "solver": self.solver}
        return ChainNodes(
            tilt=tilt,
            first=FlowMapPosterior(model, self.jumps),
            proposal=Noising(self.t_min, self.t_max),
            lookahead=(
                _drawing(build_posterior(posterior, model, self.draws, **numbers)),
                build_value("value", model, tilt),
            ),
            acceptance=(Acceptance(tilt),),
            adaptation=None if self.acceptance is None else Adaptation(self.acceptance),
        )


@dataclass(frozen=True, kw_only=True)
class SourceMCMC(ChainRecipe):
    r"""A chain over the noise of a few-step map (ESS-Flow, 2510.05849): exact as steps grow.

    .. math:: \pi(x_0) \propto N(x_0; 0, I)\, e^{\lambda r(X_{0,1}(x_0))}

    Exact for what the map samples in its jumps, few as they may be; no posterior is needed. The
    kernel is preconditioned Crank-Nicolson ("pcn"), that along the reward's gradient ("pcnl",
    Psi-Sampler, 2506.01320), or elliptical slice sampling ("slice"), whose rows shrink by
    themselves, each at its cost. Step sizes are drawn at random where none is given.
    """

    name = "source_mcmc"
    default_steps = 64

    kernel: Choice = option("pcn", "how the noise moves: pcn, pcnl or slice")
    jumps: int = option(4, "jumps of the flow map from noise to a sample", checks.count)

    def chain(self, model, tilt):
        return build_kernel(self.kernel, model, tilt, self.jumps)


def _drawing(posterior: Posterior) -> Posterior:
    """A posterior by whose draws a chain can move."""
    if not posterior.noise:
        raise ValueError(
            f"a waltz moves by draws of the posterior, and {posterior!r} is a point: use 'glass', "
            "'stochastic_map', 'exact' or 'renoised'"
        )
    if "endpoint_log_weight" in posterior.makes and posterior.draws < 2:
        raise ValueError(
            f"the draws of {posterior!r} are weighted against each other, so a waltz needs several "
            "of them: take draws=16"
        )
    return posterior
