r"""A learned value in a graph: at a state, or as the move of the velocity, without a lookahead.

.. math:: b^*_t = b_t + c_t \nabla V_t, \qquad c_t = \frac{1-t}{t}

grad V vanishes like t, so that the move has a limit at time 0: it is taken just after it.
"""

import torch

from alignflow import checks
from alignflow.cost import MeteredValue
from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time
from alignflow.tilt import Tilt

from .estimator import Estimator
from .value_function import ValueFunction

__all__ = ["Learned", "LearnedGradient", "LearnedTilt"]

FIRST = 1e-4  # time at which c_t grad V is taken in place of 0, where it is 0 times infinity


class Learned(Estimator):
    """V_t, by one forward of a value function.

    Args:
        model: What is steered.
        tilt: Its reward and strength must be among those that the value is of.
        value: The value function.

    Raises:
        ValueError: If the value is of another model, reward or strength, or there is none.
    """

    reads = ("state", "time")
    optional = ("condition",)
    writes = ("value",)

    def __init__(self, model: FlowMap, tilt: Tilt, value: ValueFunction | None = None):
        super().__init__(model, tilt)
        if not isinstance(value, ValueFunction):
            raise ValueError(
                "a learned value must be given, value=af.learn_value(policy, reward), "
                f"got {checks.shown(value)}"
            )
        value.check(model, tilt)
        self.value = MeteredValue(value)

    def forward(self, tensordict):
        return self.write(tensordict, value=self.at(tensordict, self.read(tensordict, "time")))

    def at(self, tensordict, time: torch.Tensor) -> torch.Tensor:
        """V (B,) of the states, at times (B,)."""
        strength = torch.full_like(time, self.tilt.strength)
        state, condition = self.read(tensordict, "state"), self.read(tensordict, "condition")
        return self.value(state, time, strength, condition)


class LearnedGradient(Learned):
    """V_t and its gradient in the state."""

    writes = ("value", "value_gradient")
    differentiates = True

    def forward(self, tensordict):
        value, gradient = self.differentiated(tensordict, self.read(tensordict, "time"))
        return self.write(tensordict, value=value, value_gradient=gradient)

    def differentiated(self, tensordict, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """V (B,) at times (B,) and its gradient (B, *E)."""
        value = self.at(tensordict, time)
        (gradient,) = torch.autograd.grad(value.sum(), self.read(tensordict, "state"))
        return value.detach(), gradient


class LearnedTilt(LearnedGradient):
    """V_t, and c_t grad V_t as `correction`: with it the velocity is that of the tilt.

    Args:
        model: What is steered.
        tilt: Its reward and strength must be among those that the value is of.
        value: The value function.
        scale: What the correction is multiplied by, without unit.
    """

    writes = ("value", "correction")

    def __init__(
        self,
        model: FlowMap,
        tilt: Tilt,
        value: ValueFunction | None = None,
        scale: float = 1.0,
    ):
        super().__init__(model, tilt, value)
        self.scale = checks.nonnegative("scale", scale)

    def forward(self, tensordict):
        time = self.read(tensordict, "time").clamp_min(FIRST)
        value, gradient = self.differentiated(tensordict, time)
        factor = expand_time(self.scale * (1 - time) / time, gradient)
        return self.write(tensordict, value=value, correction=factor * gradient)

    def extra_repr(self) -> str:
        scale = "" if self.scale == 1 else f", scale={self.scale:g}"
        return f"{super().extra_repr()}{scale}"
