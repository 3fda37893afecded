"""Data sets of labelled images, held in memory as bytes."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from tensordict import TensorDict
from torch import Tensor

__all__ = ["Images", "cache_folder"]


@dataclass(frozen=True)
class Images:
    """Images with labels: what every image data set of this library is.

    Args:
        pixels: (N, C, H, W), uint8.
        labels: Integers (N,) by name.
        condition: Name of the label that a conditional model is given, if any.
    """

    pixels: Tensor
    labels: dict[str, Tensor] = field(default_factory=dict)
    condition: str | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def event_shape(self) -> torch.Size:
        """Shape (C, H, W) of one image."""
        return self.pixels.shape[1:]

    def states(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Images as states in [-1, 1], (n, C, H, W), float32."""
        return self.pixels[rows].float() / 127.5 - 1

    def sample(self, n: int, generator: torch.Generator | None = None) -> TensorDict:
        """n images drawn with replacement: `data` (n, C, H, W), `condition` (n,) if labelled."""
        rows = torch.randint(len(self), (n,), generator=generator)
        batch = TensorDict({"data": self.states(rows)}, batch_size=n)
        if self.condition is not None:
            batch["condition"] = self.labels[self.condition][rows]
        return batch

    def select(self, rows: Tensor | slice) -> Self:
        """The data set of some of its rows."""
        labels = {name: label[rows] for name, label in self.labels.items()}
        return replace(self, pixels=self.pixels[rows], labels=labels)


def cache_folder() -> Path:
    """Where drawn data sets are kept: alignflow in the user's cache folder (XDG_CACHE_HOME)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "alignflow"
