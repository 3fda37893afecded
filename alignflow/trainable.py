"""What training, distillation and tuning ask of a policy: a flow map with a network."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.interpolants import as_time
from alignflow.strengths import StrengthRange

__all__ = ["TrainablePolicy", "check_trainable"]


class TrainablePolicy(FlowMap):
    """A flow map with a network: what training, distillation and tuning ask of a policy.

    Subclasses implement `average_velocity`, `mean_denoiser`, `flow_map` and `save`; velocity and
    denoiser are their diagonals. What is trained are the policy's `parameters()`; `noise`,
    `device`, `dtype` and `data_std` are those of any flow map.

    Attributes:
        module: The network, called with (x, s, t, condition): what is compiled.
        parametrization: What the network predicts: "average_velocity", "mean_denoiser" or
            "simplex".
        invertible: Whether the map runs from data to noise too (t < s).
    """

    module: nn.Module
    parametrization: str
    invertible: bool = False

    def average_velocity(self, x: Tensor, s: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """v_{s,t}(x), (N, *E), of states (N, *E) and times (N,)."""
        raise NotImplementedError

    def mean_denoiser(self, x: Tensor, s: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """delta_{s,t}(x) = x + (1-s) v_{s,t}(x), (N, *E), of states (N, *E) and times (N,)."""
        raise NotImplementedError

    def velocity(self, x: Tensor, t: float | Tensor, condition=None) -> Tensor:
        self.check_state(x)
        t = as_time(t, x)
        return self.average_velocity(x, t, t, condition)

    def denoiser(self, x: Tensor, t: float | Tensor, condition=None) -> Tensor:
        self.check_state(x)
        t = as_time(t, x)
        return self.mean_denoiser(x, t, t, condition)

    def with_context(self, data_std: float | None = None) -> "TrainablePolicy":
        """A copy whose network takes a context too, (time, state): the start of `learn_posterior`.

        Args:
            data_std: Standard deviation of the data; the policy's where it is None.

        Raises:
            ValueError: If the network cannot be given a context.
        """
        raise ValueError(f"{type(self).__name__} cannot be given a context")

    def with_strengths(self, strengths: StrengthRange) -> "TrainablePolicy":
        """A copy that takes a strength, without effect yet: the start of a tuning for a range.

        Raises:
            ValueError: If the network cannot be given a strength.
        """
        raise ValueError(f"{type(self).__name__} cannot be given a strength")

    def inner_velocity(
        self, x: Tensor, s: Tensor, t: Tensor, context: tuple[Tensor, Tensor], condition: Any = None
    ) -> Tensor:
        """v_{s,t}(x) of the inner flow to the posterior, (N, *E): what `learn_posterior` trains.

        Args:
            x: Inner states, (N, *E).
            s: Inner start, (N,).
            t: Inner end, (N,).
            context: Time (N,) and state (N, *E) that the posterior is given.
            condition: As in `velocity`.
        """
        raise NotImplementedError(f"{type(self).__name__} is no stochastic flow map")

    def inner_denoiser(
        self, x: Tensor, t: Tensor, context: tuple[Tensor, Tensor], condition: Any = None
    ) -> Tensor:
        """Mean of the posterior given an inner state at inner time t too, (N, *E)."""
        raise NotImplementedError(f"{type(self).__name__} is no stochastic flow map")

    def save(
        self,
        folder: str | Path,
        dtype: torch.dtype | None = None,
        *,
        allow_nonfinite: bool = False,
    ) -> Path:
        """Write the policy as a folder from which it can be loaded.

        Args:
            folder: Where; absent, empty, or a folder that this wrote, which is replaced.
            dtype: Of the stored numbers, e.g. torch.float16 for half the size; as they are if None.
            allow_nonfinite: Whether NaN and infinite weights are saved.
        """
        raise NotImplementedError


def check_trainable(policy: Any, caller: str) -> TrainablePolicy:
    """The policy itself if it has a network to train.

    Args:
        policy: What came.
        caller: The function that trains, which the error names.

    Raises:
        ValueError: If it is no flow map, or one without a network.
    """
    check_flow_map("policy", policy)
    if not isinstance(policy, TrainablePolicy):
        raise ValueError(
            f"{caller} needs a policy with a network, FlowMapPolicy(module, ...); "
            f"{type(policy).__name__} has none"
        )
    return policy
