"""The base velocity, for a graph whose posterior does not give it."""

from alignflow.cost import Cost, forwards_of_call
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

    @property
    def cost(self) -> Cost:
        return Cost(nfe=forwards_of_call(self.model))

    def forward(self, tensordict):
        state, time = self.read(tensordict, "state"), self.read(tensordict, "time")
        velocity = self.model.velocity(state, time, self.read(tensordict, "condition"))
        return self.write(tensordict, velocity=velocity)
