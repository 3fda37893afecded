"""The networks that learned rewards of strings are made of: soft tokens in, numbers out.

They learned from strings and from mixtures of strings, whose tokens are soft and whose target is
the mean of the strings', as a denoiser's would be: so they have a useful gradient inside of the
simplex too. Results are judged by the properties themselves.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignflow import checks
from alignflow.checkpoint import load_frozen

__all__ = ["STRING_NETWORKS", "PropertyNetwork", "StringLabelNetwork", "StringNetwork"]

STRING_NETWORKS = ("names", "fragments", "molecules")
FOLDER = Path(__file__).parent / "shipped" / "strings"


class StringNetwork(nn.Module):
    """Numbers (N, A) of soft tokens (N, L, V): dilated residual convolutions, then pooling.

    Args:
        labels: Names of the A numbers.
        length: Positions L.
        vocabulary: Tokens V.
        width: Features of a position.
        depth: Residual blocks, each of twice the reach of the one before.

    Attributes:
        kind: What a folder says that it holds, and errors call it.
    """

    kind: ClassVar[str] = "string network"

    def __init__(
        self, labels: Sequence[str], length: int, vocabulary: int, width: int = 56, depth: int = 4
    ):
        super().__init__()
        if not labels or not all(isinstance(label, str) for label in labels):
            raise ValueError(f"labels must be names, got {checks.shown(labels)}")
        length, vocabulary = checks.count("length", length), checks.count("vocabulary", vocabulary)
        width, depth = checks.count("width", width), checks.count("depth", depth)
        self.labels, self.event_shape = tuple(labels), (length, vocabulary)
        self.arguments: dict[str, Any] = {
            "labels": list(labels),
            "length": length,
            "vocabulary": vocabulary,
            "width": width,
            "depth": depth,
        }
        self.embed = nn.Linear(vocabulary, width)
        self.blocks = nn.Sequential(*(_Block(width, 2**i) for i in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Sequential(
            nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, len(labels))
        )

    @classmethod
    def load_shipped(cls, name: str) -> Self:
        """A shipped network, frozen; gradients flow through it to the states.

        Raises:
            ValueError: If there is none of that name.
            CheckpointError: If its files are damaged, or hold a network of another kind.
        """
        if name not in STRING_NETWORKS:
            known = ", ".join(STRING_NETWORKS)
            raise ValueError(f"there is no {cls.kind} {name!r}: known are {known}")
        return load_frozen(FOLDER / name, cls.kind, cls)

    def forward(self, states: Tensor) -> Tensor:
        """Soft tokens (N, L, V) to numbers (N, A).

        Raises:
            ValueError: If the states are of another shape.
        """
        if states.shape[1:] != self.event_shape:
            length, vocabulary = self.event_shape
            raise ValueError(
                f"this {self.kind} takes soft tokens (N, {length}, {vocabulary}), "
                f"got {tuple(states.shape)}"
            )
        hidden = self.norm(self.blocks(self.embed(states)))
        return self.last(torch.cat([hidden.mean(1), hidden.logsumexp(1)], dim=1))


class StringLabelNetwork(StringNetwork):
    """Logits of labels that a string may have."""

    kind = "string classifier"


class PropertyNetwork(StringNetwork):
    """Properties of a string, in their units.

    Attributes:
        shift: Of each property, its mean over what was learned from, (A,).
        scale: Likewise, its standard deviation.
    """

    kind = "property network"
    shift: Tensor
    scale: Tensor

    def __init__(self, labels: Sequence[str], *args: int, **kwargs: int):
        super().__init__(labels, *args, **kwargs)
        self.register_buffer("shift", torch.zeros(len(labels)))
        self.register_buffer("scale", torch.ones(len(labels)))

    def forward(self, states: Tensor) -> Tensor:
        return self.shift + self.scale * super().forward(states)


class _Block(nn.Module):
    """A residual step, (N, L, width) to the same, that sees so far to both sides."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv1 = nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.silu(self.conv1(self.norm(x).transpose(1, 2)))
        return x + self.conv2(hidden).transpose(1, 2)
