r"""Points in place of draws: the endpoint of the flow, or the denoiser.

.. math:: z = D_t(x_t) = E[x_1 | x_t] \qquad\text{or}\qquad z = X_{t,1}(x_t)

Both are biased stand-ins for a draw, the first off the data manifold, the second on it.
"""

from alignflow.flow_map import FlowMap
from alignflow.interpolants import velocity_from_denoiser

from .base import Posterior

__all__ = ["DenoiserPosterior", "FlowMapPosterior"]


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
    """The point D_t(x_t): the posterior's mean. It writes the velocity too, which follows from it.

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
