r"""Regularizers towards the base; None disables.

Each is a callable `(path, base, condition) -> cost`, (N,), of a rollout's path and the frozen base.
"""

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.metrics import default_bandwidths, gaussian_kernel

from .memoryless import MemorylessRollout
from .ode import ODERollout
from .paths import MapRollout, Path

__all__ = ["MMD", "EndpointDistance", "EndpointKL", "PathKL", "Regularizer", "Rollout"]

Rollout = MapRollout | MemorylessRollout | ODERollout


class Regularizer(Protocol):
    """A cost of a path, beside which rewards are weighed."""

    @property
    def rollout(self) -> Callable[[], Rollout]:
        """The default class of rollouts."""
        ...

    @property
    def accepts(self) -> tuple[type, ...]:
        """Classes of rollouts on which it is defined."""
        ...

    def __call__(self, path: Path, base: FlowMap, condition=None) -> Tensor:
        """Cost (N,) of a path."""
        ...


class PathKL:
    r"""The KL of the tuned model's memoryless paths to the base's: its optimum is the tilt.

    .. math:: \mathrm{KL}(P_\theta \,\|\, P) = \mathbb{E}_{P_\theta} \int_0^1
        \frac{\lvert 2(b_\theta - b) \rvert^2}{2 \cdot 2 c_t}\, dt
        = \mathbb{E}_{P_\theta} \int_0^1 \frac{\lvert b_\theta - b \rvert^2}{c_t}\, dt

    by Girsanov: the drifts differ by :math:`2(b_\theta - b)` and the noise is
    :math:`g_t^2 = 2 c_t`. Maximizing :math:`\lambda E[r(x_1)] - KL` over distributions of paths
    gives the base's times :math:`e^{\lambda r(x_1)}` up to a constant. Because the paths are
    memoryless that factor leaves the noise alone, so the optimum is an SDE's from the same noise,
    its endpoint is the tilt, and its velocity is :math:`b + c_t \nabla V_t`.
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


class EndpointKL:
    r"""The KL of the tuned distribution to the base's, by the divergence; its optimum is the tilt.

    .. math:: \mathrm{KL}(\rho_\theta \,\|\, \rho) = \mathbb{E}\, \log
        \frac{\rho_\theta(x_1)}{\rho(x_1)}, \qquad
        \log \rho_\theta(x_1) = \log \mathcal{N}(x_0) - \int_0^1 \nabla \cdot b_\theta\, dt

    The base's density at the same endpoint is found by its ODE run backwards.
    """

    rollout = ODERollout
    accepts = (ODERollout,)

    def __call__(self, path: Path, base: FlowMap, condition=None) -> Tensor:
        return cast(Any, path.log_ratio)(base)


class MMD:
    r""":math:`\beta\,\mathrm{MMD}^2` between endpoints and the base's from the same starts.

    It constrains the distribution and not single samples; its optimum is not the tilt. The
    kernel is that of `metrics.mmd`; pairs of one start are left out, so that it is unbiased.

    Args:
        beta: Cost of a unit of squared discrepancy, which is at most 2, in units of strength times
            reward.
    """

    rollout = MapRollout
    accepts = (MapRollout, MemorylessRollout, ODERollout)

    def __init__(self, beta: float = 10.0):
        self.beta = checks.positive("beta", beta)

    def __call__(self, path: Path, base: FlowMap, condition=None) -> Tensor:
        with torch.no_grad():
            y = path.replay(base).flatten(1)
        x, n = path.endpoint.flatten(1), len(y)
        if n < 2:
            raise ValueError("a discrepancy needs a batch of at least 2")
        kernel = gaussian_kernel(default_bandwidths(y))
        cross = kernel(torch.cdist(x, y))
        pairs = kernel(torch.cdist(x, x)) + kernel(torch.cdist(y, y)) - cross - cross.T
        others = 1 - torch.eye(n, dtype=x.dtype, device=x.device)
        return self.beta * (pairs * others).sum(1) / (n - 1)


class EndpointDistance:
    r""":math:`\beta \lvert X_\theta - X \rvert^2` between endpoints from the same start and noise.

    A stabilizer: it keeps the map near the base, and its optimum is not the tilt.

    Args:
        beta: Cost of a unit of squared distance, in units of strength times reward.
    """

    rollout = MapRollout
    accepts = (MapRollout, MemorylessRollout, ODERollout)

    def __init__(self, beta: float = 1.0):
        self.beta = checks.positive("beta", beta)

    def __call__(self, path: Path, base: FlowMap, condition=None) -> Tensor:
        with torch.no_grad():
            anchor = path.replay(base)
        return self.beta * _square(path.endpoint - anchor)


def _square(x: Tensor) -> Tensor:
    return x.square().flatten(1).sum(1)
