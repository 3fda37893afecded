"""Exact draws of the posterior of a target: a closed form, or a stored data set."""

from typing import Any

import torch
from tensordict import TensorDictBase

from alignflow.flow_map import FlowMap

from .base import Posterior

__all__ = ["ExactPosterior"]


class ExactPosterior(Posterior):
    """Exact draws of p(x1 | x_t) of a target, which needs no forward of a network.

    They are no smooth function of the state (a mixture's component, a stored row), so they are
    drawn when random numbers are; the gradient-free estimator takes them.

    Args:
        model: The frozen flow map.
        target: What has `posterior_sample(x, t, k, generator)`, with `condition=` too where it says
            `conditional` of itself; any other is asked without a condition.
        draws: K, endpoints of each row.
    """

    reads = ("state", "time", "endpoint")
    noise = ("endpoint",)
    smooth = False

    def __init__(self, model: FlowMap, target: Any, draws: int = 1):
        super().__init__(model, draws)
        if not hasattr(target, "posterior_sample"):
            raise ValueError(
                f"exact draws need a target with posterior_sample (alignflow.targets), "
                f"{type(target).__name__} has none: give one as target="
            )
        self.target = target

    def draw(self, tensordict: TensorDictBase, generator: torch.Generator | None = None) -> None:
        state, time = self.read(tensordict, "state"), self.read(tensordict, "time")
        condition = self.read(tensordict, "condition")
        asked = condition is not None and getattr(self.target, "conditional", False)
        given = {"condition": condition} if asked else {}
        endpoint = self.target.posterior_sample(state, time, self.draws, generator, **given)
        self.write(tensordict, endpoint=endpoint.to(state))

    def forward(self, tensordict):
        self.read(tensordict, "endpoint")
        return tensordict
