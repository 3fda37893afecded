"""The classifiers that rewards are made of: small residual networks whose gradients are of use.

They learned from clean, blurred and noisy images, so that they have a gradient on unfinished
samples too. Results are judged by other networks, of another architecture and trained on other
images.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from alignflow import checks
from alignflow.image_classifier import ImageClassifier

__all__ = ["CLASSIFIERS", "Classifier", "load_classifier"]

CLASSIFIERS = ("avatars", "digits", "glyphs")
FOLDER = Path(__file__).parent / "shipped" / "classifiers"


class Classifier(ImageClassifier):
    """Residual blocks, group normalization, SiLU.

    Args:
        labels: As the first four in `ImageClassifier`.
        channels: Of the images.
        size: Of the images.
        exclusive: Classes or attributes.
        widths: Features at each resolution, finest first; the image is halved between them.
        stride: Of the first convolution; 2 halves the image before all else.
    """

    def __init__(
        self,
        labels: Sequence[str],
        channels: int,
        size: int,
        exclusive: bool,
        widths: Sequence[int] = (32, 64, 80),
        stride: int = 1,
    ):
        widths = [checks.count("widths", width) for width in widths]
        stride = checks.count("stride", stride)
        super().__init__(labels, channels, size, exclusive, widths=widths, stride=stride)
        channels, size, _ = self.event_shape
        self.first = nn.Conv2d(channels, widths[0], 3, stride, padding=1)
        layers, features = [_Block(widths[0])], widths[0]
        for width in widths[1:]:
            layers += [nn.Conv2d(features, width, 3, 2, padding=1), _Block(width)]
            features = width
        self.blocks = nn.Sequential(*layers)
        self.norm = nn.GroupNorm(8, features)
        # which place a mark has matters, so places are kept apart
        side = math.ceil(size / (stride * 2 ** (len(widths) - 1)))
        self.last = nn.Linear(features * side**2, len(labels))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, A), one for each label."""
        hidden = self.blocks(self.first(self.centered(images)))
        return self.last(F.silu(self.norm(hidden)).flatten(1))


def load_classifier(name: str) -> Classifier:
    """A shipped reward classifier, frozen; gradients flow through it to the images.

    Args:
        name: "avatars" (six attributes), "digits" (ten classes) or "glyphs" (36 classes).

    Raises:
        ValueError: If there is none of that name.
        CheckpointError: If its files are damaged.
    """
    return Classifier.load_shipped(name, CLASSIFIERS, FOLDER)


class _Block(nn.Module):
    """A residual step, (N, width, H, W) to the same."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(hidden)))
