"""The base class of image classifiers, those of rewards and those of judges."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch.nn.functional as F
from torch import Tensor, nn

from alignflow import checks
from alignflow.checkpoint import load_frozen

__all__ = ["ImageClassifier"]


class ImageClassifier(nn.Module):
    """Logits (N, A) of named labels, of images (N, C, H, W) in [0, 1]; subclasses have the layers.

    Args:
        labels: Their names.
        channels: Of the images.
        size: Height and width of the images.
        exclusive: Whether an image has exactly one of the labels (classes), or any of them
            (attributes).
        **layers: Further arguments of the subclass, which with these build the network again.

    Attributes:
        kind: What a folder says that it holds, and errors call it.
    """

    kind: ClassVar[str] = "classifier"

    def __init__(
        self, labels: Sequence[str], channels: int, size: int, exclusive: bool, **layers: Any
    ):
        super().__init__()
        if not all(isinstance(label, str) for label in labels):
            raise ValueError(f"labels must be names, got {checks.shown(labels)}")
        self.labels, self.exclusive = tuple(labels), checks.flag("exclusive", exclusive)
        channels, size = checks.count("channels", channels), checks.count("size", size)
        self.event_shape = (channels, size, size)
        self.arguments = {
            "labels": list(labels),
            "channels": channels,
            "size": size,
            "exclusive": exclusive,
            **layers,
        }

    @classmethod
    def load_shipped(cls, name: str, names: Iterable[str], folder: Path) -> Self:
        """A network of this class by name, frozen; gradients flow through it to the images.

        Args:
            name: Of the network.
            names: Those that there are.
            folder: With a folder for each.

        Raises:
            ValueError: If there is none of that name.
            CheckpointError: If its files are damaged.
        """
        if name not in names:
            raise ValueError(f"there is no {cls.kind} {name!r}: known are {', '.join(names)}")
        return load_frozen(folder / name, cls.kind, cls)

    def centered(self, images: Tensor) -> Tensor:
        """Images in [-1, 1], as the layers take them.

        Raises:
            ValueError: If they are of another shape.
        """
        if images.shape[1:] != self.event_shape:
            raise ValueError(
                f"this {self.kind} takes images (N, {', '.join(map(str, self.event_shape))}), "
                f"got {tuple(images.shape)}"
            )
        return 2 * images - 1

    def log_probabilities(self, images: Tensor) -> Tensor:
        """Log-probability of each label, (N, A)."""
        logits = self(images)
        return logits.log_softmax(-1) if self.exclusive else F.logsigmoid(logits)
