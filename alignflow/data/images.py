"""Data sets of labeled images, as bytes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from alignflow import checks
from alignflow.draws import integers

__all__ = ["Images", "cache_folder", "pixel_states"]


@dataclass(frozen=True)
class Images:
    """Images with labels: the type of all image data sets.

    Args:
        pixels: (N, C, H, W), uint8; in memory, or of a file by `memory_mapped`.
        labels: Integers (N,) by name.
        condition: Name of the label that a conditional model is given, if any.
    """

    pixels: Tensor
    labels: dict[str, Tensor] = field(default_factory=dict)
    condition: str | None = None

    def __post_init__(self):
        pixels: Any = self.pixels
        is_bytes = isinstance(pixels, Tensor) and pixels.dtype == torch.uint8
        if not is_bytes or pixels.ndim != 4 or not len(pixels):
            raise ValueError(f"pixels must be uint8 (N, C, H, W) with N >= 1, got {_kind(pixels)}")
        checks.instance("labels", self.labels, Mapping, "a mapping from names to integers")
        for name, label in self.labels.items():
            if not isinstance(label, Tensor) or label.shape != (len(self.pixels),):
                raise ValueError(
                    f"label {name!r} must be integers ({len(self.pixels)},), one an image, "
                    f"got {_kind(label)}"
                )
        if self.condition is not None:
            checks.choice("condition", self.condition, self.labels)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def event_shape(self) -> torch.Size:
        """Shape (C, H, W) of one image."""
        return self.pixels.shape[1:]

    def states(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Images as states in [-1, 1], (n, C, H, W), float32."""
        return pixel_states(self.pixels[rows])

    def sample(self, n: int, generator: torch.Generator | None = None) -> TensorDict:
        """n images drawn with replacement: `data` (n, C, H, W), `condition` (n,) if labeled."""
        n, generator = checks.count("n", n), checks.as_generator(generator)
        rows = integers(len(self), (n,), generator, self.pixels.device)
        batch = TensorDict({"data": self.states(rows)}, batch_size=n)
        if self.condition is not None:
            batch["condition"] = self.labels[self.condition][rows]
        return batch

    def select(self, rows: Tensor | slice) -> Self:
        """The data set of some of its rows."""
        labels = {name: label[rows] for name, label in self.labels.items()}
        return replace(self, pixels=self.pixels[rows], labels=labels)


def pixel_states(pixels: Tensor) -> Tensor:
    """Bytes as states in [-1, 1], float32."""
    return pixels.float() / 127.5 - 1


def _kind(value: Any) -> str:
    dtype = f"{value.dtype} " if isinstance(value, Tensor) else ""
    return f"{dtype}{checks.shown(value)}"


def cache_folder() -> Path:
    """Where drawn data sets are stored: alignflow in the user's cache folder (XDG_CACHE_HOME)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "alignflow"
