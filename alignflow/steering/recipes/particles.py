r"""Sequential Monte Carlo: systems of M particles, weighted at every step and resampled.

.. math:: \log w \mathrel{+}= A_{k+1} - A_k + \log\frac{p}{q}, \qquad A_K = \lambda r(x_1)

A_k is a potential of the value at step k, p the transition of the model and q the corrected one.
The value is estimated from a lookahead, or a learned one.
"""

from dataclasses import dataclass

from alignflow import checks
from alignflow.corrections import Ramped
from alignflow.flow_map import FlowMap
from alignflow.resampling import KINDS, AdaptiveResampling, Potential, Work
from alignflow.settings import option, optional
from alignflow.transitions import Transition
from alignflow.values import ValueFunction

from ..defaults import default_transition
from ..nodes import Nodes
from ..registry import Choice, build_posterior, build_transition, build_value
from .base import (
    Recipe,
    draws_option,
    inner_steps_option,
    learned_option,
    moving_option,
    particles_option,
    posterior_option,
    scheme_option,
    solver_option,
    threshold_option,
    transition_option,
)
from .learned import learned

__all__ = ["FK", "FMTT", "DiamondSMC", "TwistedSMC"]

DEFAULT_NOISE = 0.5


@dataclass(frozen=True, kw_only=True)
class FMTT(Recipe):
    r"""Particles driven up t r(X_{t,1}(x)), weighted by its work (FMTT, 2511.22688): consistent.

    .. math::
        dx = \big[b + e\,\nabla\log\rho_t + e\,\nabla(t \lambda r(X_{t,1}(x)))\big] dt
        + \sqrt{2e}\, dW, \qquad d\log w = \lambda r(X_{t,1}(x_t))\, dt, \qquad e = \eta^2 c_t

    Consistent for any noise eta: the transport terms of the weight cancel, because X_{t,1} is
    constant along the flow. These are weights of short steps of the SDE. Particles of a model whose
    jumps were learned move by these (`anchored`) unless a noise is given: driven up the same t r,
    and weighted by the density ratio of each move.
    """

    name = "fmtt"
    default_steps = None

    particles: int = particles_option(8)
    noise: float | None = option(
        None,
        "eta of the SDE, a fraction of the memoryless noise; anchored for a model whose jumps were "
        "learned, else 0.5, if None",
        optional(checks.nonnegative),
    )
    scheme: str = scheme_option("systematic")
    threshold: float = threshold_option()

    def nodes(self, model, tilt):
        transition: Choice = default_transition(model) if self.noise is None else "sde"
        account, scale = Potential("diff", ramped=True), 1.0
        if transition == "sde":
            noise = DEFAULT_NOISE if self.noise is None else self.noise
            transition = {"name": "sde", "noise": noise}  # it holds x_1 at the denoiser
            # drift e grad(t lambda r) beside the noise sqrt(2 e) dW, with e = noise^2 c_t
            account, scale = Work(), noise**2 / (1 + noise**2)
        return Nodes(
            posterior=build_posterior("flow_map", model),
            value=build_value("gradient", model, tilt),
            corrections=(Ramped(scale),),
            transition=build_transition(transition, model),
            resampler=AdaptiveResampling(
                tilt, self.particles, account, self.scheme, self.threshold
            ),
            particles=self.particles,
        )


@dataclass(frozen=True, kw_only=True)
class FK(Recipe):
    """Particles of the base weighted by their lookahead (FK steering, 2501.06848): consistent.

    Nothing is differentiated. The potential A_k is the value ("diff"), its largest so far ("max")
    or its sum ("add").
    """

    name = "fk"
    default_steps = None

    particles: int = particles_option(8)
    posterior: Choice = posterior_option("denoiser")
    value: ValueFunction | None = learned_option("a learned value, in place of the lookahead's")
    potential: str = option(
        "diff",
        "what particles are weighted by at a step: diff, max or add",
        lambda name, value: checks.choice(name, value, KINDS),
    )
    scheme: str = scheme_option("systematic")
    threshold: float = threshold_option()
    transition: Choice | None = moving_option()

    def nodes(self, model, tilt):
        potential = Potential(self.potential)
        posterior, value = None, learned("learned", model, tilt, self)
        if value is None:
            posterior = build_posterior(self.posterior, model)
            value = build_value("value", model, tilt)
        return Nodes(
            posterior=posterior,
            value=value,
            transition=_moving(self.transition, model),
            resampler=AdaptiveResampling(
                tilt, self.particles, potential, self.scheme, self.threshold
            ),
            particles=self.particles,
        )


@dataclass(frozen=True, kw_only=True)
class TwistedSMC(Recipe):
    r"""Particles moved by a ramped gradient and weighted for it (DAS, 2501.05803): consistent.

    .. math:: b^q = b + \kappa\, c_t \nabla (t V_t)

    The weight has the density ratio log p/q of each move. A learned value is not ramped; were it
    exact, and the steps short, all weights would be equal.
    """

    name = "twisted_smc"
    default_steps = None

    particles: int = particles_option(8)
    posterior: Choice = posterior_option("denoiser")
    value: ValueFunction | None = learned_option("a learned value, in place of the lookahead's")
    scale: float = option(
        1.0, "kappa, what the correction is multiplied by, without unit", checks.nonnegative
    )
    scheme: str = scheme_option("ssp")
    threshold: float = threshold_option()
    transition: Choice | None = moving_option()

    def nodes(self, model, tilt):
        posterior, corrections = None, ()
        value = learned("learned_tilt", model, tilt, self, scale=self.scale)
        potential = Potential("diff", ramped=value is None)
        if value is None:
            posterior = build_posterior(self.posterior, model)
            value = build_value("gradient", model, tilt)
            corrections = (Ramped(self.scale),)
        return Nodes(
            posterior=posterior,
            value=value,
            corrections=corrections,
            transition=_moving(self.transition, model),
            resampler=AdaptiveResampling(
                tilt, self.particles, potential, self.scheme, self.threshold
            ),
            particles=self.particles,
        )


@dataclass(frozen=True, kw_only=True)
class DiamondSMC(Recipe):
    """Particles of the base weighted by their value (Diamond SMC, 2602.05993): consistent.

    The value is that of K posterior draws, and a step is a draw of the model's transition, both
    by GLASS or by a stochastic map.
    """

    name = "diamond_smc"

    particles: int = particles_option(8)
    draws: int = draws_option(4)
    posterior: Choice = posterior_option("glass")
    inner_steps: int = inner_steps_option()
    solver: str = solver_option()
    scheme: str = scheme_option("systematic")
    threshold: float = threshold_option()
    transition: Choice = transition_option("glass")

    def nodes(self, model, tilt):
        numbers = {"inner_steps": self.inner_steps, "solver": self.solver}
        return Nodes(
            posterior=build_posterior(self.posterior, model, self.draws, **numbers),
            value=build_value("value", model, tilt),
            transition=build_transition(self.transition, model, **numbers),
            resampler=AdaptiveResampling(
                tilt, self.particles, Potential(), self.scheme, self.threshold
            ),
            particles=self.particles,
        )


def _moving(transition: Choice | None, model: FlowMap) -> Transition:
    """How the particles of a model move."""
    return build_transition(transition or default_transition(model), model)
