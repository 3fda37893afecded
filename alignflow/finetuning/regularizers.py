r"""What holds a tuned model to its base; `None` in their place holds nothing.

Each is called with a rollout's path, the frozen base and the condition, and gives a cost (N,).
"""

import torch
from torch import Tensor

from alignflow.flow_map import FlowMap

from .memoryless import MemorylessRollout
from .rollouts import MapRollout, Path

__all__ = ["EndpointDistance", "PathKL"]


class PathKL:
    r"""The KL of the tuned model's memoryless paths to the base's: its optimum is the tilt.

    .. math:: \mathrm{KL}(P_\theta \,\|\, P) = \mathbb{E}_{P_\theta} \int_0^1
        \frac{\lvert 2(b_\theta - b) \rvert^2}{2 \cdot 2 c_t}\, dt
        = \mathbb{E}_{P_\theta} \int_0^1 \frac{\lvert b_\theta - b \rvert^2}{c_t}\, dt

    by Girsanov: the drifts differ by :math:`2(b_\theta - b)` and the noise is
    :math:`g_t^2 = 2 c_t`. Maximizing :math:`\lambda E[r(x_1)] - KL` over path laws gives the base's
    law times :math:`e^{\lambda r(x_1)}` up to a constant. Because the paths are memoryless that
    factor leaves the noise alone, so the law is an SDE's from the same noise, its endpoint is the
    tilt, and its velocity is :math:`b + c_t \nabla V_t`.
    """

    rollout = MemorylessRollout
    accepts = (MemorylessRollout,)

    def __call__(self, path: Path, base: FlowMap, condition=None) -> Tensor:
        # the gradient goes through the states too: they are where the tuned model leads
        costs = [
            node.weight * _square(node.velocity - base.velocity(node.state, node.time, condition))
            for node in path.nodes
        ]
        return torch.stack(costs).sum(0)


class EndpointDistance:
    r""":math:`\beta \lvert X_\theta - X \rvert^2` between endpoints from the same start and noise.

    A stabilizer: it keeps the map near the base, and its optimum is not the tilt.

    Args:
        beta: Cost of a unit of squared distance, in units of strength times reward.
    """

    rollout = MapRollout
    accepts = (MapRollout, MemorylessRollout)

    def __init__(self, beta: float = 1.0):
        if not 0 < beta < float("inf"):
            raise ValueError(f"beta must be positive and finite, got {beta}")
        self.beta = beta

    def __call__(self, path: Path, base: FlowMap, condition=None) -> Tensor:
        with torch.no_grad():
            anchor = path.replay(base)
        return self.beta * _square(path.endpoint - anchor)


def _square(x: Tensor) -> Tensor:
    return x.square().flatten(1).sum(1)
