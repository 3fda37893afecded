"""Tilt matching: targets made of the direction to an endpoint and of what that endpoint is worth.

Members of the family differ in how they blend d = x1 - x0, the base's velocity b, the model's own
and the worth of x1, which is scored once and never differentiated. Endpoints must come from the
model whose velocity b is, or the fixed point is not the tilt; here both are the base.

Source: Tilt Matching (2512.21829).
"""

from dataclasses import dataclass
from typing import ClassVar

from tensordict.utils import NestedKey
from torch import Tensor

from .velocity_matching import VelocityMatching

__all__ = ["TiltMatching"]


class TiltMatching(VelocityMatching):
    """What the family shares. A member gives `blend`, and names the `worth` that it takes."""

    @dataclass
    class _AcceptedKeys(VelocityMatching._AcceptedKeys):
        worth: NestedKey = "worth"

    worth: ClassVar[str] = "weight"  # or "gain", as `Pool.draw` has them

    def blend(self, direction: Tensor, base: Tensor, own: Tensor, worth: Tensor) -> Tensor:
        """What the velocity is regressed on, (N, *E).

        Args:
            direction: d = x1 - x0, (N, *E).
            base: The base's velocity, (N, *E).
            own: The model's, (N, *E), without a graph.
            worth: Of the endpoint, (N, 1...).
        """
        raise NotImplementedError

    def sample_batch(self, n):
        """n candidates: `data` (n, *E), `worth` (n,) and perhaps `condition` (n, ...)."""
        drawn = self.drawn(n)
        worth = drawn[self.worth]
        return self.under_keys(drawn.exclude("weight", "gain").set("worth", worth))

    def target(self, rows, at):
        worth = rows.get(self.tensor_keys.worth).to(at.own)
        worth = worth.reshape(-1, *[1] * (at.own.ndim - 1))
        return self.blend(at.direction, at.base, at.own, worth)
