r"""The blend of a base and one tuning of it: a strength that is chosen at sampling, approximately.

.. math:: b^f = (1 - f)\, b + f\, b^\lambda \approx b^{f \lambda}

It is right to first order in lambda, and exact where grad V is linear in it: of a normal base and
a linear reward <a, x> it is N(m + f lambda Sigma a, Sigma). A quadratic reward has another std than
the blend, whose std along a common axis is s^{1-f} s_lambda^f, s and s_lambda those of the ends.

Source: Diffusion Blend (2505.18547).
"""

from typing import Any

from torch import Tensor

from alignflow import checks
from alignflow.flow_map import FlowMap, Wrapped

__all__ = ["Blended"]


class Blended(Wrapped):
    """Velocities and jumps between those of a base and of a policy that was tuned from it.

    Blended jumps are those of the blended velocity as they get short. A tuning for a range of
    strengths, `af.finetune(policy, reward, strength=(0.0, 4.0))`, is trained at each of them
    instead, and takes one forward where this takes two.

    Args:
        base: The model that was tuned; what decodes.
        tuned: The policy that it became, at the largest strength.
        fraction: Of that strength: 0 is the base, 1 the tuned policy.

    Raises:
        ValueError: If the fraction is none, or the two have states of different shapes.
    """

    def __init__(self, base: FlowMap, tuned: FlowMap, fraction: float):
        super().__init__(base)
        if tuned.event_shape != base.event_shape:
            raise ValueError(
                f"base and tuned policy must have states of one shape, got {base.event_shape} and "
                f"{tuned.event_shape}"
            )
        self.tuned, self.fraction = tuned, checks.fraction("fraction", fraction)

    @property
    def evaluations(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of both jumps."""
        return self.model.evaluations + self.tuned.evaluations

    @property
    def has_posterior_flow(self) -> bool:
        return False

    def velocity(self, x: Tensor, t: float | Tensor, condition: Any = None) -> Tensor:
        tuned = self.tuned.velocity(x, t, condition)
        return self.model.velocity(x, t, condition).lerp(tuned, self.fraction)

    def flow_map(
        self, x: Tensor, s: float | Tensor, t: float | Tensor, condition: Any = None
    ) -> Tensor:
        tuned = self.tuned.flow_map(x, s, t, condition)
        return self.model.flow_map(x, s, t, condition).lerp(tuned, self.fraction)
