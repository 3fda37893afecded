r"""A network as the value: 0 at strength 0, and flat in the state at time 0, as the exact one is.

.. math:: V_t(x; \lambda) = \lambda\, \big(m + s\, f(u, t, \lambda / \lambda_{\max})\big), \qquad
    u = \frac{t\, d\, x}{t^2 d^2 + (1-t)^2}

The posterior of x_1 depends on x through t x alone. So does u, which is the mean of x_1 over its
std d where the data is normal: the gradient of V vanishes like t, and c_t grad V stays finite. m
and s are mean and std of the reward.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alignflow import checks
from alignflow.checkpoint import registered_name, save_folder
from alignflow.interpolants import expand_time

from .value_function import ValueFunction

__all__ = ["FORMAT", "KIND", "LearnedValue", "as_strengths"]

KIND, FORMAT = "value", 1


class LearnedValue(ValueFunction):
    """The value by a network, which is saved with what it was learned for.

    Args:
        network: `network(u, t, fraction[, condition])` of scaled states (N, *E), times and
            fractions of the largest strength (N,), as networks of two times are called. V is the
            mean of what it answers, (N, ...), or its `readout(u, answer)`, (N,), if it has one.
        reward: Name of the reward.
        policy: `alignflow.checkpoint.digest` of the model.
        event_shape: Shape *E of a state.
        strengths: Least and largest lambda.
        data_std: d, std of the data along a coordinate.
        facts: Anything JSON can hold that travels with the saved value: its card. Once learned, it
            has the `calibration` on held-out samples.
    """

    center: Tensor
    scale: Tensor

    def __init__(
        self,
        network: nn.Module,
        reward: str,
        policy: str,
        event_shape: Sequence[int],
        strengths: Sequence[float] = (0.0, 4.0),
        data_std: float = 1.0,
        facts: dict[str, Any] | None = None,
    ):
        shape, strengths = tuple(event_shape), as_strengths(strengths)
        super().__init__(reward, policy, shape, strengths)
        wanted = "a torch.nn.Module that is called with (state, time, fraction, condition)"
        self.network = checks.instance("network", network, nn.Module, wanted)
        takes = getattr(network, "takes", None)
        if takes is not None and not takes(shape):
            raise ValueError(
                f"network {type(network).__name__} does not take states of shape {shape}"
            )
        self.data_std = checks.positive("data_std", data_std)
        self.facts = {} if facts is None else facts
        like = next(network.parameters(), torch.zeros(()))
        self.register_buffer("center", like.new_zeros(()))
        self.register_buffer("scale", like.new_ones(()))

    def forward(self, x: Tensor, t: Tensor, strength: Tensor, condition: Any = None) -> Tensor:
        time, spread = t.to(self.center), self.data_std
        factor = time * spread / ((time * spread).square() + (1 - time).square())
        scaled = expand_time(factor, x) * x.to(self.center)
        fraction = strength.to(self.center) / self.strengths[1]
        label = () if condition is None else (condition,)
        answer = self.network(scaled, time, fraction, *label).to(self.center)
        readout = getattr(self.network, "readout", None)
        mean = answer.reshape(len(x), -1).mean(1) if readout is None else readout(scaled, answer)
        return (strength.to(mean) * (self.center + self.scale * mean)).to(x.dtype)

    def standardize(self, rewards: Tensor, states: Tensor, data_std: float | None = None) -> None:
        """Take mean and std of rewards (N,), and the std of states (N, *E) unless it is given."""
        self.center.copy_(rewards.mean())
        self.scale.copy_(rewards.std().clamp_min(torch.finfo(torch.float32).eps))
        # a distribution at a point has no scale to divide by
        self.data_std = max(states.std().item(), 1e-2) if data_std is None else data_std

    def save(self, folder: str | Path, *, allow_nonfinite: bool = False) -> Path:
        """Write the value as a folder that `af.load_value` reads.

        Args:
            folder: Where; absent, empty, or a folder that this wrote, which is replaced.
            allow_nonfinite: Whether weights that are NaN or infinite are meant to be so.

        Raises:
            CheckpointError: If something else stands there, which is left as it is, or a weight is
                NaN or infinite.
        """
        name = registered_name(self.network)
        network: Any = self.network
        facts = {
            "kind": KIND,
            "format": FORMAT,
            "network": name,
            "arguments": network.arguments if name is not None else {},
            "dtype": str(self.center.dtype).removeprefix("torch."),
            "reward": self.reward,
            "policy": self.policy,
            "event_shape": list(self.event_shape),
            "strengths": list(self.strengths),
            "data_std": self.data_std,
            "facts": self.facts,
        }
        return save_folder(folder, self.state_dict(), facts, allow_nonfinite=allow_nonfinite)

    def extra_repr(self) -> str:
        least, most = self.strengths
        return f"reward={self.reward!r}, strengths=({least:g}, {most:g})"


def as_strengths(strengths: Any) -> tuple[float, float]:
    """The least and the largest strength, as numbers.

    Raises:
        ValueError: If they are no such pair.
    """
    wanted = "the least and the largest strength, such as (0.0, 4.0)"
    if isinstance(strengths, str) or not isinstance(strengths, Sequence) or len(strengths) != 2:
        raise ValueError(f"strengths must be {wanted}, got {checks.shown(strengths)}")
    least, most = (checks.nonnegative("strengths", each) for each in strengths)
    if not least < most < math.inf:
        raise ValueError(f"strengths must be {wanted}, got {checks.shown(strengths)}")
    return least, most
