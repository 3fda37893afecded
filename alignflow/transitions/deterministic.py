r"""Steps without noise: the flow map's jump, and solvers of the tilted velocity.

.. math:: x_{t'} = X_{t,t'}(x_t) + (t'-t)\,\text{correction} \qquad\text{or}\qquad
    x_{t'} = x_t + (t'-t)\,(b_t + \text{correction})

Heun's second evaluation, at the target time, is left out of the step that ends at time 1, where a
velocity from a denoiser is 0/0; one Euler step of length h costs h^2, the order that Heun has over
all steps together.
"""

from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time

from .base import Transition

__all__ = ["Euler", "FlowMapTransition", "Heun", "HeunCorrector", "Straight"]


class FlowMapTransition(Transition):
    """The jump of the flow map, plus the correction over the length of the step.

    Args:
        model: The frozen flow map.
    """

    optional = ("correction", "condition")

    def __init__(self, model: FlowMap):
        super().__init__()
        self.model = model

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

    `forward` takes the Euler step and stores the state that it started from; `corrector` does the
    rest.
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


class Straight(Transition):
    """A step on the straight line to the lookahead's endpoint; no forward.

    Source: FMRG with v_{t,1} reused (2604.27147); at the last step it is the flow map's jump.
    """

    reads = ("state", "time", "target_time", "step_length", "endpoint")

    def forward(self, tensordict):
        state, time, target, length, endpoint = (self.read(tensordict, key) for key in self.reads)
        if endpoint.shape[1] != 1:
            raise ValueError(f"{self!r} goes to one endpoint a row, got {endpoint.shape[1]}")
        fraction = expand_time(length / (1 - time), state)
        moved = state + fraction * (endpoint[:, 0] - state)
        correction = self.read(tensordict, "correction")
        if correction is not None:
            moved = moved + expand_time(length, state) * correction
        return self.write(tensordict, state=moved, time=target)
