r"""Posteriors: draws from p(x1 | x_t), the lookahead of a steerer.

A node writes K draws of each row as `endpoint` (B, K, *E), and `endpoint_log_weight` (B, K) where
the draws are weighted. The noise (B, K, *E) of the draws is a key too, so that they are functions
of the state, and may be taken in parts.
"""

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.conditions import repeat_rows
from alignflow.flow_map import FlowMap
from alignflow.graph import Node, noise_like

__all__ = ["DrawnPosterior", "Posterior", "Rows"]

Rows = tuple[Tensor, Tensor, Any]


class Posterior(Node):
    """Endpoints given the state.

    Args:
        model: The frozen flow map.
        draws: K, endpoints of each row.

    Attributes:
        smooth: Whether an endpoint is a differentiable function of the state, by which the value
            can be differentiated.
    """

    reads = ("state", "time")
    optional = ("condition",)
    writes = ("endpoint",)
    smooth = True

    def __init__(self, model: FlowMap, draws: int = 1):
        super().__init__()
        self.model = model
        self.draws = checks.count("draws", draws)

    def extra_repr(self) -> str:
        return f"draws={self.draws}" if self.draws > 1 else ""


class DrawnPosterior(Posterior):
    """Endpoints as functions of the state and of noise (B, K, *E)."""

    reads = ("state", "time", "endpoint_noise")
    noise = ("endpoint_noise",)

    def draw(self, tensordict: TensorDictBase, generator: torch.Generator | None = None) -> None:
        state = self.read(tensordict, "state")
        noise = noise_like(state, self.draws, generator=generator)
        self.write(tensordict, endpoint_noise=noise)

    def rows(self, tensordict: TensorDictBase) -> Rows:
        """State (B, *E), time (B,) and condition of each row."""
        state, time = self.read(tensordict, "state"), self.read(tensordict, "time")
        return state, time, self.read(tensordict, "condition")

    def repeated(self, tensordict: TensorDictBase, draws: int) -> Rows:
        """The same for each draw, (B K, ...), draws of a row side by side."""
        state, time, condition = self.rows(tensordict)
        return (
            state.repeat_interleave(draws, 0),
            time.repeat_interleave(draws),
            repeat_rows(condition, draws),
        )
