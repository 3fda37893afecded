"""Embeddings of times and labels of all networks."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from alignflow import checks

__all__ = ["LabelEmbedding", "TimeEmbedding", "TimePairEmbedding", "check_labels"]

WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


class TimeEmbedding(nn.Module):
    """Cosines and sines of a time at geometric frequencies, then an MLP: (N,) -> (N, width).

    Args:
        width: Size of the embedding.
        frequencies: Number of frequencies, from 1 to `max_frequency` radians per unit of time.
        max_frequency: The highest; finer detail in time than its inverse is not seen.
    """

    frequencies: Tensor

    def __init__(self, width: int, frequencies: int = 64, max_frequency: float = 1000.0):
        super().__init__()
        self.width = width
        exponents = torch.linspace(0.0, math.log(max_frequency), frequencies)
        self.register_buffer("frequencies", exponents.exp(), persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, t: Tensor) -> Tensor:
        angle = t[:, None] * self.frequencies
        return self.mlp(torch.cat([angle.cos(), angle.sin()], dim=-1))


class LabelEmbedding(nn.Module):
    """A class label (N,) -> (N, width); the label -1, or no label at all, is the null class.

    Args:
        classes: Number of classes; labels run from 0 to classes - 1.
        width: Size of the embedding.
    """

    def __init__(self, classes: int, width: int):
        super().__init__()
        self.classes = classes
        self.table = nn.Embedding(classes + 1, width)

    def forward(self, label: Tensor | None, n: int) -> Tensor:
        if label is None:
            return self.table.weight[self.classes].expand(n, -1)
        check_labels(label, self.classes)
        if label.ndim and len(label) not in (1, n):
            raise ValueError(f"{n} states need one label or {n}, got {len(label)}")
        label = label.expand(n).long()
        return self.table(torch.where(label < 0, self.classes, label))


def check_labels(label: Any, classes: int) -> None:
    """Refuse what is no label of so many classes; on a GPU the numbers are not looked at.

    Args:
        label: Whole numbers from 0 to classes - 1, or -1 for the null class.
        classes: Number of classes.
    """
    wanted = f"labels must be whole numbers from 0 to {classes - 1}, or -1 for no label"
    if not isinstance(label, Tensor) or label.dtype not in WHOLE or label.ndim > 1:
        kind = f" of {label.dtype}" if isinstance(label, Tensor) else ""
        raise ValueError(f"{wanted}; got {checks.shown(label)}{kind}")
    if label.device.type != "cpu" or torch.compiler.is_compiling() or not label.numel():
        return
    least, most = (int(bound) for bound in label.long().aminmax())
    if least < -1 or most >= classes:
        raise ValueError(f"{wanted}; got labels from {least} to {most}")


class TimePairEmbedding(nn.Module):
    """Two times and an optional label as one vector: embeddings of s and of t - s, added.

    The length of the jump is embedded and not its end: on the diagonal it is constant, so a
    network pretrained by flow matching meets nothing new there (Boffi et al. 2025, appendix).

    Args:
        width: Size of the embedding.
        classes: Number of class labels, 0 for an unconditional network.
    """

    def __init__(self, width: int, classes: int = 0):
        super().__init__()
        self.start = TimeEmbedding(width)
        self.length = TimeEmbedding(width)
        self.label = LabelEmbedding(classes, width) if classes else None

    def forward(self, s: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        embedding = self.start(s) + self.length(t - s)
        if self.label is not None:
            return embedding + self.label(condition, len(s))
        if condition is not None:
            raise ValueError("this network is unconditional (classes=0) and takes no condition")
        return embedding
