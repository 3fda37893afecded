"""Transitions: one step of the sampler, from `time` to `target_time`, with the correction added.

Without a correction in the graph they are samplers of the base model.
"""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow.graph import Node, noise_like

__all__ = ["NoisyTransition", "Transition"]


class Transition(Node):
    """Moves `state` from `time` to `target_time`, and sets `time` to where it is then.

    Attributes:
        has_density: Whether it writes `log_ratio` (B,), log p - log q of the move under the base
            and under the corrected transition, so that particles can be weighed exactly.
        corrects: Whether it can be corrected at all.
    """

    reads = ("state", "time", "target_time", "step_length")
    optional = ("correction",)
    writes = ("state", "time")
    has_density = False
    corrects = True

    @property
    def corrector(self) -> Node | None:
        """A node that improves the step once posterior and value were evaluated anew, at the state
        and time it led to; None for a transition that needs no second look."""
        return None

    def std(self, time: Tensor, target: Tensor) -> Tensor:
        """Standard deviation (N,) of the base's step from times (N,) to times (N,).

        A transition with a density says it, for where it is 0 no move can be weighed.
        """
        if self.has_density:
            raise NotImplementedError(f"{self!r} has a density and does not say its std")
        return torch.zeros_like(time)

    def tilted_velocity(self, tensordict: TensorDictBase) -> Tensor:
        """b + correction, (B, *E)."""
        velocity = self.read(tensordict, "velocity")
        correction = self.read(tensordict, "correction")
        return velocity if correction is None else velocity + correction


class NoisyTransition(Transition):
    """A step that takes `step_noise`, (B, *E)."""

    reads = ("state", "time", "target_time", "step_noise")
    noise = ("step_noise",)

    def draw(self, tensordict: TensorDictBase, generator: torch.Generator | None = None) -> None:
        noise = noise_like(self.read(tensordict, "state"), generator=generator)
        self.write(tensordict, step_noise=noise)
