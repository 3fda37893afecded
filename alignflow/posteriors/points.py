r"""Points in place of draws: the endpoint of the flow, or the denoiser.

.. math:: z = D_t(x_t) = E[x_1 | x_t] \qquad\text{or}\qquad z = X_{t,1}(x_t)

Both are biased stand-ins for a draw, the first off the data manifold, the second on it.
"""

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.interpolants import velocity_from_denoiser

from .base import Posterior

__all__ = ["DenoiserPosterior", "FlowMapPosterior"]


class FlowMapPosterior(Posterior):
    """The point X_{t,1}(x_t): where the flow carries the state, on the data manifold.

    Args:
        model: The frozen flow map.
        jumps: Equal jumps in which it goes there.
    """

    def __init__(self, model: FlowMap, jumps: int = 1):
        super().__init__(model)
        self.jumps = checks.count("jumps", jumps)

    def forward(self, tensordict):
        state, time = self.read(tensordict, "state"), self.read(tensordict, "time")
        condition = self.read(tensordict, "condition")
        start = time
        for jump in range(1, self.jumps):
            end = time + (1 - time) * (jump / self.jumps)
            state, start = self.model.flow_map(state, start, end, condition), end
        endpoint = self.model.flow_map(state, start, 1.0, condition)
        return self.write(tensordict, endpoint=endpoint.unsqueeze(1))

    def extra_repr(self) -> str:
        return f"jumps={self.jumps}" if self.jumps > 1 else ""


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
