"""What every recipe is: a method as a value, whose nodes follow from a model and a tilt.

An option that many recipes take is stated here, once, and a recipe says its default.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from alignflow import checks
from alignflow.corrections import TiltCorrection
from alignflow.flow_map import FlowMap
from alignflow.graph import Node
from alignflow.resampling.schemes import SCHEMES
from alignflow.settings import Settings, option, optional
from alignflow.tilt import Tilt
from alignflow.values import ValueFunction

from ..chains import ChainNodes
from ..nodes import Nodes
from ..registry import Choice

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """A steering method: its fields are its options.

    A subclass states its formula, its options and its nodes. The first line of its docstring is the
    line of the method in `af.steer.methods()`.

    Attributes:
        name: By which `af.steer` takes it.
        default_steps: Steps if none are given; None for as many as the model suggests
            (`alignflow.steering.defaults`).
    """

    name: ClassVar[str] = ""
    default_steps: ClassVar[int | None] = 8

    def nodes(self, model: FlowMap, tilt: Tilt) -> Nodes | ChainNodes:
        """The nodes of the method.

        Args:
            model: The frozen flow map.
            tilt: What the samples are steered to.

        Raises:
            ValueError: If the method cannot run on this model and tilt.
        """
        raise NotImplementedError


def inside(name: str, time: float) -> float:
    """A time in (0, 1)."""
    return checks.fraction(name, time, zero=False, one=False)


def scheme_name(name: str, value: Any) -> str:
    """A resampling scheme."""
    return checks.choice(name, value, SCHEMES)


def transition_option(default: Choice) -> Any:
    """How a step moves the state."""
    return option(default, "how a step moves: flow_map, euler, heun, sde, anchored, ...")


def moving_option() -> Any:
    """How particles move, by what the model is."""
    meaning = "how a step moves; anchored for a model whose jumps were learned, else sde, if None"
    return option(None, meaning)


def posterior_option(default: Choice) -> Any:
    """What draws endpoints of a state."""
    return option(default, "what draws endpoints: glass, stochastic_map, denoiser, renoised, ...")


def value_option(default: Choice) -> Any:
    """How rewards of endpoints become a value or its gradient."""
    return option(default, "how endpoints guide: gradient_free, gradient, reward_softmax")


def learned_option(meaning: str) -> Any:
    """A learned value."""
    return option(None, meaning, optional(_as_value))


def _as_value(name: str, value: Any) -> ValueFunction:
    return checks.instance(name, value, ValueFunction, "a learned value, af.learn_value(...)")


def draws_option(default: int) -> Any:
    """Endpoints of each state."""
    return option(default, "K, endpoints of each state", checks.count)


def particles_option(default: int) -> Any:
    """Particles of each system."""
    return option(default, "M, of each system", checks.count)


def t_min_option(default: float, check: Any = inside) -> Any:
    """From when on steps are steered."""
    return option(default, "time: steps that start before it are the model's", check)


def t_max_option(default: float, check: Any = inside) -> Any:
    """Until when steps are steered."""
    return option(default, "time: steps that start at it or later are the model's", check)


def step_size_option(default: float, check: Any = checks.nonnegative) -> Any:
    """Step size of a gradient ascent on the reward."""
    return option(default, "eta of the ascent, squared units of state per unit of lambda r", check)


def inner_steps_option(default: int = 4) -> Any:
    """Steps of the inner flow of a posterior."""
    return option(default, "steps of the flow that makes one draw of the posterior", checks.count)


def solver_option(default: str = "heun") -> Any:
    """Solver of the inner flow of a posterior."""
    return option(default, "of that flow: heun, two forwards a step but for the last, or euler")


def scheme_option(default: str) -> Any:
    """Resampling scheme."""
    return option(default, "of resampling: systematic, residual, ssp or multinomial", scheme_name)


def threshold_option(default: float = 0.5) -> Any:
    """When particles are resampled."""
    meaning = "a system is resampled when its ESS is below this fraction of its particles"
    return option(default, meaning, checks.fraction)


def by_gradient(value: Choice) -> tuple[Node, ...]:
    """The coefficient of the tilt, for a value that gives a gradient."""
    name = value if isinstance(value, str) else value["name"]
    return () if name == "gradient_free" else (TiltCorrection(),)
