r"""A learned value as the critic of policy gradient: what a state promises, before its step.

.. math:: V_t(x; \lambda) = \log E[e^{\lambda r(x_1)} | x_t = x]

A function of the state alone leaves the mean of the gradient where it is, whatever it is. V is the
one that the return has at the tilt: there lambda r less the log-ratio of the steps from x_t on is V
for each path, so that nothing is left of the advantage.
"""

from typing import Any

import torch
from torch import Tensor

from alignflow import checks
from alignflow.conditions import as_given
from alignflow.values import ValueFunction

__all__ = ["as_critic", "promised"]


def as_critic(name: str, value: Any) -> ValueFunction | None:
    """A value function, or None for none."""
    wanted = "a learned value, af.learn_value(policy, reward), or None"
    return None if value is None else checks.instance(name, value, ValueFunction, wanted)


@torch.no_grad()
def promised(critic: ValueFunction, path: Any, strength: float) -> Tensor:
    """V (N, K) of the states of episodes, before each of their K steps.

    Args:
        critic: V.
        path: Rows (N, K) of `state`, `time` and perhaps `condition`.
        strength: lambda.
    """
    steps = path.flatten(0, 1)
    time = steps["time"].flatten()
    condition = as_given(steps.get("condition", None))
    value = critic(steps["state"], time, torch.full_like(time, strength), condition)
    return value.unflatten(0, path.shape)
