r"""Guidance by a learned value, without a lookahead: one forward of the model in a step.

.. math:: x_{t'} = X_{t,t'}(x_t) + (t'-t)\, \kappa\, c_t \nabla V_t(x_t)
"""

from dataclasses import dataclass
from typing import Any

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.settings import option
from alignflow.tilt import Tilt
from alignflow.values import Estimator, ValueFunction

from ..nodes import Nodes
from ..registry import Choice, build_transition, build_value
from .base import Recipe, learned_option, t_min_option, transition_option

__all__ = ["ValueGuidance", "learned"]


def learned(node: str, model: FlowMap, tilt: Tilt, recipe: Any, **numbers: Any) -> Estimator | None:
    """The node of a recipe's learned value; None where it has none.

    Args:
        node: Name of the node.
        model: What is steered.
        tilt: What it is steered to.
        recipe: With `value`.
        **numbers: Of the node.
    """
    if recipe.value is None:
        return None
    default = getattr(type(recipe), "posterior", None)
    if getattr(recipe, "posterior", None) != default:
        raise ValueError(
            f"posterior={checks.shown(recipe.posterior)} would do nothing beside a learned value, "
            "which needs no lookahead: give one of the two"
        )
    return build_value({"name": node, "value": recipe.value}, model, tilt, **numbers)


@dataclass(frozen=True, kw_only=True)
class ValueGuidance(Recipe):
    r"""Jump, plus c_t grad of a learned value: the tilt, as the value learns and steps grow.

    .. math:: x_{t'} = X_{t,t'}(x_t) + (t'-t)\, \kappa\, c_t \nabla V_t(x_t)

    The value is `af.learn_value(policy, reward)`. Its forward and gradient count as those of the
    model do.
    """

    name = "value_guidance"

    value: ValueFunction | None = learned_option("the learned value, af.learn_value(...)")
    scale: float = option(
        1.0, "kappa, what the correction is multiplied by, without unit", checks.nonnegative
    )
    t_min: float = t_min_option(0.0, checks.fraction)
    transition: Choice = transition_option("flow_map")

    def nodes(self, model, tilt):
        choice = {"name": "learned_tilt", "value": self.value}
        return Nodes(
            value=build_value(choice, model, tilt, scale=self.scale),
            transition=build_transition(self.transition, model),
            t_min=self.t_min,
        )
