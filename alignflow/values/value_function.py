r"""The value as a function of state, time and strength, of one reward and one model.

.. math:: V_t(x; \lambda) = \log E[e^{\lambda r(x_1)} | x_t = x]
"""

from typing import Any

from torch import Tensor, nn

from alignflow.checkpoint import digest
from alignflow.flow_map import FlowMap, Guided, Wrapped
from alignflow.tilt import Tilt

__all__ = ["ValueFunction"]


class ValueFunction(nn.Module):
    """V(x, t, strength, condition), (N,), differentiable in x; subclasses implement `forward`.

    Args:
        reward: Name of the reward.
        policy: `digest` of the model.
        event_shape: Shape *E of a state.
        strengths: Least and largest lambda that it knows.
    """

    def __init__(
        self,
        reward: str,
        policy: str,
        event_shape: tuple[int, ...],
        strengths: tuple[float, float],
    ):
        super().__init__()
        self.reward, self.policy = reward, policy
        self.event_shape, self.strengths = event_shape, strengths

    def forward(self, x: Tensor, t: Tensor, strength: Tensor, condition: Any = None) -> Tensor:
        """V of states (N, *E) at times (N,) in [0, 1) and strengths (N,), (N,)."""
        raise NotImplementedError

    def check(self, model: FlowMap, tilt: Tilt) -> None:
        """Refuse another model, another reward, or a strength that it does not know.

        Args:
            model: What is steered, as a steerer wraps it.
            tilt: What it is steered to.

        Raises:
            ValueError: Naming what came and what was wanted.
        """
        base = _unwrapped(model)
        if tuple(base.event_shape) != self.event_shape:
            raise ValueError(
                f"this value is of states of shape {self.event_shape}, got a policy of states of "
                f"shape {tuple(base.event_shape)}"
            )
        if tilt.reward.name != self.reward:
            raise ValueError(
                f"this value is of the reward {self.reward!r}, got the reward {tilt.reward.name!r}"
            )
        least, most = self.strengths
        if not least <= tilt.strength <= most:
            raise ValueError(
                f"this value knows strengths from {least:g} to {most:g}, "
                f"got strength={tilt.strength:g}"
            )
        if (found := digest(base)) != self.policy:
            raise ValueError(
                f"this value was learned for another policy, of digest {self.policy}, got one of "
                f"digest {found}: learn one for this policy"
            )


def _unwrapped(model: FlowMap) -> FlowMap:
    """The model behind meters."""
    while isinstance(model, Wrapped):
        if isinstance(model, Guided):
            raise ValueError(
                f"a value is of the policy itself: guidance must be 1, got {model.scale:g}"
            )
        model = model.model
    return model
