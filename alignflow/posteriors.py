r"""Posteriors: draws from p(x1 | x_t), the lookahead of a steerer.

.. math:: z = D_t(x_t) = E[x_1 | x_t] \qquad\text{or}\qquad z = X_{t,1}(x_t)

Both are points, not samples: what they stand in for is biased, the first off the data manifold, the
second on it. A node writes K draws of each row as `endpoint` (B, K, *E), and `endpoint_log_weight`
(B, K) where the draws are weighted.
"""

from alignflow.cost import Cost, forwards_of_call
from alignflow.flow_map import FlowMap
from alignflow.graph import Node
from alignflow.interpolants import velocity_from_denoiser

__all__ = ["DenoiserPosterior", "FlowMapPosterior", "Posterior", "Velocity"]


class Posterior(Node):
    """Draws of the endpoint given the state.

    Args:
        model: The frozen flow map.
        draws: K, endpoints of each row.
    """

    reads = ("state", "time")
    optional = ("condition",)
    writes = ("endpoint",)

    def __init__(self, model: FlowMap, draws: int = 1):
        super().__init__()
        self.model = model
        self.draws = draws

    @property
    def cost(self) -> Cost:
        return Cost(nfe=self.draws * forwards_of_call(self.model))

    def extra_repr(self) -> str:
        return f"draws={self.draws}" if self.draws > 1 else ""


class FlowMapPosterior(Posterior):
    """The point X_{t,1}(x_t): where the flow carries the state, on the data manifold.

    Args:
        model: The frozen flow map.
    """

    def __init__(self, model: FlowMap):
        super().__init__(model)

    def forward(self, tensordict):
        state, time = self.read(tensordict, "state"), self.read(tensordict, "time")
        endpoint = self.model.flow_map(state, time, 1.0, self.read(tensordict, "condition"))
        return self.write(tensordict, endpoint=endpoint.unsqueeze(1))


class DenoiserPosterior(Posterior):
    """The point D_t(x_t): the posterior's mean. Writes the velocity too, which it holds.

    Args:
        model: The frozen flow map.
    """

    writes = ("endpoint", "denoiser", "velocity")

    def __init__(self, model: FlowMap):
        super().__init__(model)

    def forward(self, tensordict):
        state, time = self.read(tensordict, "state"), self.read(tensordict, "time")
        denoiser = self.model.denoiser(state, time, self.read(tensordict, "condition"))
        return self.write(
            tensordict,
            endpoint=denoiser.unsqueeze(1),
            denoiser=denoiser,
            velocity=velocity_from_denoiser(state, time, denoiser),
        )


class Velocity(Node):
    """The base velocity b_t(x), for a graph whose posterior does not give it.

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
