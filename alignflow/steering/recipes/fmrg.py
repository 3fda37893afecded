r"""FMRG: reward guidance of a flow map, by its jacobian (J) or on the endpoint (E).

Source: How to Guide Your Flow (2604.27147).
"""

from dataclasses import dataclass

from alignflow import checks
from alignflow.corrections import Drift, Normalized
from alignflow.settings import option, optional

from ..nodes import Nodes
from ..registry import Choice, build_posterior, build_transition, build_value
from .base import Recipe, step_size_option, t_max_option, transition_option

__all__ = ["FMRGE", "FMRGJ"]


@dataclass(frozen=True, kw_only=True)
class FMRGJ(Recipe):
    r"""Jump along v + step_size grad(strength r(X_{t,1}(x))) (FMRG-J, 2604.27147): ascends.

    .. math:: x_{t'} = X_{t,t'}(x_t) + (t'-t)\, \eta\, \nabla_x \lambda r(X_{t,1}(x_t))

    Steps from t_max on are unguided. `transition="straight"` reuses v_{t,1}: one forward a step.
    """

    name = "fmrg_j"

    step_size: float = step_size_option(1.0)
    scale: float | None = option(
        None,
        "kappa, length of the move as a fraction of the velocity's; free if None",
        optional(checks.nonnegative),
    )
    t_max: float = t_max_option(0.9)
    transition: Choice = transition_option("flow_map")

    def nodes(self, model, tilt):
        normalized = () if self.scale is None else (Normalized(self.scale),)
        return Nodes(
            posterior=build_posterior("flow_map", model),
            value=build_value("gradient", model, tilt),
            corrections=(Drift(self.step_size), *normalized),
            transition=build_transition(self.transition, model),
            t_max=self.t_max,
        )


@dataclass(frozen=True, kw_only=True)
class FMRGE(Recipe):
    r"""Jump, plus (1-t) t' of an ascent on the endpoint (FMRG-E, 2604.27147): ascends.

    .. math:: x_{t'} = X_{t,t'}(x_t) + (1-t)\, t'\, (z' - z), \qquad z = X_{t,1}(x_t)

    z' is z after `inner_steps` steps of gradient ascent on lambda r; no gradient goes through the
    network.
    """

    name = "fmrg_e"

    step_size: float = step_size_option(0.1)
    inner_steps: int = option(4, "steps of ascent on one endpoint", checks.count)
    t_max: float = t_max_option(0.9)
    transition: Choice = transition_option("flow_map")

    def nodes(self, model, tilt):
        numbers = {"step_size": self.step_size, "inner_steps": self.inner_steps}
        return Nodes(
            posterior=build_posterior("flow_map", model),
            value=build_value("endpoint_ascent", model, tilt, **numbers),
            transition=build_transition(self.transition, model),
            t_max=self.t_max,
        )
