"""The velocity of the model, for a graph whose posterior does not write it."""

from alignflow.flow_map import FlowMap
from alignflow.graph import Node

__all__ = ["Velocity"]


class Velocity(Node):
    """b_t(x), (B, *E).

    Args:
        model: The frozen flow map.
    """

    reads = ("state", "time")
    optional = ("condition",)
    writes = ("velocity",)

    def __init__(self, model: FlowMap):
        super().__init__()
        self.model = model

    def forward(self, tensordict):
        state, time = self.read(tensordict, "state"), self.read(tensordict, "time")
        velocity = self.model.velocity(state, time, self.read(tensordict, "condition"))
        return self.write(tensordict, velocity=velocity)
