"""A multilayer perceptron for states that are vectors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from alignflow import checks

from .embedding import LabelEmbedding

__all__ = ["MLP"]


class MLP(nn.Module):
    """Average velocity of (N, D) states from the state and both times, side by side.

    Args:
        dimension: D.
        width: Hidden units of a layer.
        depth: Hidden layers.
        classes: Number of class labels, 0 for an unconditional network.
        context: Whether it takes a context (t, x_t), as stochastic flow maps do. Its weights start
            at zero, so a pretrained map is left as it was.
        scale: Standard deviation of the data; inputs are divided and outputs multiplied by it.
    """

    def __init__(
        self,
        dimension: int,
        width: int = 256,
        depth: int = 3,
        classes: int = 0,
        context: bool = False,
        scale: float = 1.0,
    ):
        super().__init__()
        dimension, width = checks.count("dimension", dimension), checks.count("width", width)
        depth, classes = checks.count("depth", depth), checks.count("classes", classes, least=0)
        context, scale = checks.flag("context", context), checks.positive("scale", scale)
        self.arguments = {
            "dimension": dimension,
            "width": width,
            "depth": depth,
            "classes": classes,
            "context": context,
            "scale": scale,
        }
        self.scale = scale
        self.first = nn.Linear(dimension + 2, width)
        self.label = LabelEmbedding(classes, width) if classes else None
        self.context = nn.Linear(dimension + 1, width, bias=False) if context else None
        if self.context is not None:
            nn.init.zeros_(self.context.weight)
        layers: list[nn.Module] = [nn.GELU()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.GELU()]
        self.rest = nn.Sequential(*layers, nn.Linear(width, dimension))

    def takes(self, event_shape: Sequence[int]) -> bool:
        """Whether it takes states of a shape."""
        return tuple(event_shape) == (self.arguments["dimension"],)

    def forward(
        self,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        condition: Tensor | None = None,
        context: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """State (N, D), times and label (N,), context ((N,), (N, D)) -> average velocity (N, D)."""
        hidden = self.first(torch.cat([x / self.scale, s[:, None], t[:, None]], dim=-1))
        if self.label is not None:
            hidden = hidden + self.label(condition, len(x))
        elif condition is not None:
            raise ValueError("this network is unconditional (classes=0) and takes no condition")
        if context is not None:
            if self.context is None:
                raise ValueError("this network takes no context: build it with context=True")
            time, state = context
            hidden = hidden + self.context(torch.cat([state / self.scale, time[:, None]], dim=-1))
        return self.rest(hidden) * self.scale
