"""Judges: image classifiers for evaluation, which no reward uses.

Plain convolutions, batch normalization, ReLU and max-pooling: another architecture than that of the
rewards' classifiers, trained on other images from another seed, so that what fools one does not
fool the other.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from alignflow import checks
from alignflow.image_classifier import ImageClassifier

__all__ = ["JUDGES", "Judge", "load_judge"]

JUDGES = ("avatars", "digits", "glyphs")
FOLDER = Path(__file__).parent / "shipped" / "judges"


class Judge(ImageClassifier):
    """Logits of labels, and features for Frechet distances between sets of images.

    Args:
        labels: As the first four in `ImageClassifier`.
        channels: Of the images.
        size: Of the images.
        exclusive: Classes or attributes.
        widths: Features at each resolution, finest first; the image is halved after each.
        features: Number F of features.
        dropout: Fraction of features left out in training.
    """

    kind = "judge"

    def __init__(
        self,
        labels: Sequence[str],
        channels: int,
        size: int,
        exclusive: bool,
        widths: Sequence[int] = (32, 64),
        features: int = 64,
        dropout: float = 0.2,
    ):
        widths = [checks.count("widths", width) for width in widths]
        features, dropout = checks.count("features", features), checks.fraction("dropout", dropout)
        more = {"widths": widths, "features": features, "dropout": dropout}
        super().__init__(labels, channels, size, exclusive, **more)
        channels, size, _ = self.event_shape
        layers: list[nn.Module] = []
        for before, width in zip((channels, *widths), widths, strict=False):
            layers += [*_convolution(before, width), *_convolution(width, width), nn.MaxPool2d(2)]
        places = (size // 2 ** len(widths)) ** 2
        self.body = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(widths[-1] * places, features, bias=False),
            nn.BatchNorm1d(features),
            nn.ReLU(),
        )
        self.last = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, len(labels)))

    def features(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to features (N, F), before the last layer."""
        return self.body(self.centered(images))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, A), one for each label."""
        return self.last(self.features(images))


def load_judge(name: str) -> Judge:
    """A shipped judge, frozen.

    Args:
        name: "avatars" (six attributes), "digits" (ten classes) or "glyphs" (36 classes).

    Raises:
        ValueError: If there is none of that name.
        CheckpointError: If its files are damaged.
    """
    return Judge.load_shipped(name, JUDGES, FOLDER)


def _convolution(before: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
