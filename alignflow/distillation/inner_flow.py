r"""The inner flow from noise to the posterior p(x1 | x_t), with its context as a condition.

The context is a TensorDict of `time` (N,), `state` (N, *E) and perhaps `label`.
"""

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from alignflow.conditions import as_given, drop_rows
from alignflow.draws import uniform
from alignflow.flow_map import FlowMap
from alignflow.interpolants import Linear
from alignflow.posteriors import InnerLook
from alignflow.predictions import Prediction
from alignflow.trainable import TrainablePolicy

from .times import EarlyTimes

__all__ = ["GLASSTeacher", "InnerFlow", "in_context"]

CONTEXT_TIMES = EarlyTimes(zero=0.1)  # at time 0 the inner flow is the unconditional one


class InnerFlow(nn.Module):
    """The inner flow of a stochastic flow map, as a loss trains it: its context is a condition.

    Args:
        policy: The stochastic flow map, with `inner_velocity`.
    """

    null_condition: None = None  # labels are dropped, contexts are not

    def __init__(self, policy: TrainablePolicy):
        super().__init__()
        self.policy = policy

    def average_velocity(self, x: Tensor, s: Tensor, t: Tensor, condition: Any) -> Tensor:
        """v_{s,t}(x), (N, *E), under a context: `time` (N,), `state` (N, *E), perhaps `label`."""
        context = condition["time"], condition["state"]
        return self.policy.inner_velocity(x, s, t, context, condition.get("label", None))

    def denoiser(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
        """The mean of the posterior given an inner state too, (N, *E)."""
        context = condition["time"], condition["state"]
        return self.policy.inner_denoiser(x, t, context, condition.get("label", None))

    def noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Inner states at time 0, (n, *E)."""
        return self.policy.noise(n, generator)

    @property
    def prediction(self) -> Prediction:
        """The policy's."""
        return self.policy.prediction


class GLASSTeacher:
    """The velocity of the exact inner flow, by a base's denoiser.

    Args:
        base: Any flow map.
    """

    def __init__(self, base: FlowMap):
        self.base = base

    @torch.no_grad()
    def velocity(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
        """(N, *E), of inner states at inner times (N,), under a context as `InnerFlow` takes."""
        look = self._look(x, t, condition)
        label = condition.get("label", None)
        return look.velocity(self.base.velocity(look.state, look.start, label))

    @torch.no_grad()
    def denoiser(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
        """The mean of the posterior given an inner state too, (N, *E)."""
        look = self._look(x, t, condition)
        return self.base.denoiser(look.state, look.start, condition.get("label", None))

    @property
    def prediction(self) -> Prediction:
        """The base's."""
        return self.base.prediction

    def _look(self, x: Tensor, t: Tensor, condition: Any) -> InnerLook:
        # on the diagonal the data's standard deviation, the last argument, cancels
        return InnerLook(x, t, t, condition["state"], condition["time"], 1.0)


def in_context(
    rows: TensorDictBase, policy: FlowMap, generator: torch.Generator, dropout: float = 0.0
) -> TensorDict:
    """Rows of data (N, *E), perhaps with labels, each with a context as its condition.

    At time 0 the posterior is the distribution of the data, and the context is left empty.

    Args:
        rows: `data` and perhaps `condition`.
        policy: Whose noise the path to a row begins with.
        generator: Source of times and noise.
        dropout: Fraction of the labels that is dropped; contexts stay.
    """
    x1 = rows["data"]
    n = len(x1)
    time = CONTEXT_TIMES.diagonal(n, generator).to(x1)
    state = Linear().state(policy.noise(n, generator), x1, time)
    context = TensorDict({"time": time, "state": state}, batch_size=n)
    label = as_given(rows.get("condition", None))
    if label is not None:
        dropped = uniform((n,), generator) < dropout
        context["label"] = drop_rows(label, dropped, policy.null_condition)
    return TensorDict({"data": x1, "condition": context}, batch_size=n)
