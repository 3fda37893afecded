r"""Lookahead steering: the gradient of the reward at the endpoint of the flow map.

.. math:: x_{t'} = X_{t,t'}(x_t) + \text{move}, \qquad g = \nabla_x \lambda r(X_{t,1}(x))
"""

from dataclasses import dataclass

from alignflow import checks
from alignflow.corrections import Ascent, Drift, Normalized, TiltCorrection
from alignflow.settings import option

from ..nodes import Nodes
from ..registry import Choice, build_posterior, build_transition, build_value
from .base import Recipe, step_size_option, t_min_option, transition_option

__all__ = ["Lookahead", "LookaheadNormalized", "LookaheadWeighted"]


@dataclass(frozen=True, kw_only=True)
class Lookahead(Recipe):
    r"""Jump, plus step_size grad(strength r(X_{t,1}(x))): ascends the reward, not the tilt.

    .. math:: x_{t'} = X_{t,t'}(x_t) + \eta\, g
    """

    name = "lookahead"

    step_size: float = step_size_option(0.1)
    transition: Choice = transition_option("flow_map")

    def nodes(self, model, tilt):
        return Nodes(
            posterior=build_posterior("flow_map", model),
            value=build_value("gradient", model, tilt),
            corrections=(Ascent(self.step_size),),
            transition=build_transition(self.transition, model),
        )


@dataclass(frozen=True, kw_only=True)
class LookaheadWeighted(Recipe):
    r"""Jump, plus c_t grad(strength r(X_{t,1}(x))) from t_min on, c_t = (1-t)/t: biased.

    .. math:: x_{t'} = X_{t,t'}(x_t) + (t'-t)\, c_t\, g

    The point gradient g does not vanish at time 0 as the gradient of the value does, so that the
    result depends on t_min by its logarithm.
    """

    name = "lookahead_weighted"

    t_min: float = t_min_option(0.01)
    transition: Choice = transition_option("flow_map")

    def nodes(self, model, tilt):
        return Nodes(
            posterior=build_posterior("flow_map", model),
            value=build_value("gradient", model, tilt),
            corrections=(TiltCorrection(),),
            transition=build_transition(self.transition, model),
            t_min=self.t_min,
        )


@dataclass(frozen=True, kw_only=True)
class LookaheadNormalized(Recipe):
    r"""Jump, plus scale |b| along grad r(X_{t,1}(x)): ascends; any strength does the same.

    .. math:: x_{t'} = X_{t,t'}(x_t) + (t'-t)\, \kappa\, |b|\, g / |g|
    """

    name = "lookahead_normalized"

    scale: float = option(
        1.0, "kappa, length of the move as a fraction of the velocity's", checks.nonnegative
    )
    transition: Choice = transition_option("flow_map")

    def nodes(self, model, tilt):
        return Nodes(
            posterior=build_posterior("flow_map", model),
            value=build_value("gradient", model, tilt),
            corrections=(Drift(1.0), Normalized(self.scale)),
            transition=build_transition(self.transition, model),
        )
