r"""Transitions: one step of the sampler, from `time` to `target_time`, with the correction added.

.. math:: x_{t'} = X_{t,t'}(x_t) + (t'-t)\,\text{correction} \qquad\text{or}\qquad
    x_{t'} = x_t + (t'-t)\,(b_t + \text{correction})

Without a correction in the graph they are the base sampler. The tilted velocity is asked for at
times below 1 only: Heun's second evaluation, at the target time, is left out of the step that ends
at time 1, where a velocity from a denoiser is 0/0; one Euler step of length h costs h^2, the order
that Heun has over all steps together.
"""

from tensordict import TensorDictBase
from torch import Tensor

from alignflow.cost import Cost, forwards_of_call
from alignflow.flow_map import FlowMap
from alignflow.graph import Node
from alignflow.interpolants import expand_time

__all__ = ["TRANSITIONS", "Euler", "FlowMapTransition", "Heun", "HeunCorrector", "Transition"]


class Transition(Node):
    """Moves `state` from `time` to `target_time`, and sets `time` to where it is then."""

    reads = ("state", "time", "target_time", "step_length")
    optional = ("correction",)
    writes = ("state", "time")

    @property
    def corrector(self) -> Node | None:
        """A node that improves the step once posterior and value were evaluated anew, at the state
        and time it led to; None for a transition that needs no second look."""
        return None

    def tilted_velocity(self, tensordict: TensorDictBase) -> Tensor:
        """b + correction, (B, *E)."""
        velocity = self.read(tensordict, "velocity")
        correction = self.read(tensordict, "correction")
        return velocity if correction is None else velocity + correction


class FlowMapTransition(Transition):
    """The jump of the flow map, plus the correction over the length of the step.

    Args:
        model: The frozen flow map.
    """

    optional = ("correction", "condition")

    def __init__(self, model: FlowMap):
        super().__init__()
        self.model = model

    @property
    def cost(self) -> Cost:
        return Cost(nfe=forwards_of_call(self.model))

    def forward(self, tensordict):
        state, time, target, length = (self.read(tensordict, key) for key in self.reads)
        moved = self.model.flow_map(state, time, target, self.read(tensordict, "condition"))
        correction = self.read(tensordict, "correction")
        if correction is not None:
            moved = moved + expand_time(length, state) * correction
        return self.write(tensordict, state=moved, time=target)


class Euler(Transition):
    """One explicit Euler step of the tilted velocity; first order."""

    reads = ("state", "target_time", "step_length", "velocity")
    writes = ("state", "time", "tilted_velocity")

    def forward(self, tensordict):
        state, target, length = (self.read(tensordict, key) for key in self.reads[:3])
        tilted = self.tilted_velocity(tensordict)
        moved = state + expand_time(length, state) * tilted
        return self.write(tensordict, state=moved, time=target, tilted_velocity=tilted)


class Heun(Euler):
    """Heun's step: Euler's, then again with the mean of the velocities at both ends; second order.

    Called, it takes the Euler step and keeps where it came from; `corrector` does the rest.
    """

    writes = ("state", "time", "tilted_velocity", "start_state")

    def __init__(self):
        super().__init__()
        self._corrector = HeunCorrector()

    @property
    def corrector(self):
        return self._corrector

    def forward(self, tensordict):
        self.write(tensordict, start_state=self.read(tensordict, "state"))
        return super().forward(tensordict)


class HeunCorrector(Transition):
    """The second half of `Heun`, with the velocity at the state that its first half led to."""

    reads = ("start_state", "step_length", "tilted_velocity", "velocity")
    writes = ("state", "tilted_velocity")

    def forward(self, tensordict):
        start, length, first = (self.read(tensordict, key) for key in self.reads[:3])
        tilted = (first + self.tilted_velocity(tensordict)) / 2
        moved = start + expand_time(length, start) * tilted
        return self.write(tensordict, state=moved, tilted_velocity=tilted)


TRANSITIONS = {
    "flow_map": FlowMapTransition,
    "euler": lambda model: Euler(),
    "heun": lambda model: Heun(),
}
