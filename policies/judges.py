"""Judges: what says how good generated images are, and is never optimized.

Plain convolutions, batch normalization, ReLU and max-pooling: another architecture than that of the
rewards' classifiers, trained on other images from another seed, so that what fools one does not
fool the other.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from alignflow import checks
from alignflow.checkpoint import load_frozen

__all__ = ["JUDGES", "Judge", "load_judge"]

JUDGES = ("avatars", "digits", "glyphs")
FOLDER = Path(__file__).parent / "shipped" / "judges"


class Judge(nn.Module):
    """Logits of labels from images, and features for Frechet distances between sets of them.

    Args:
        labels: Their names.
        channels: Of the images.
        size: Height and width of the images.
        exclusive: Whether an image has exactly one of the labels (classes), or any of them
            (attributes).
        widths: Features at each resolution, finest first; the image is halved after each.
        features: Number F of features.
        dropout: Share of features left out in training.
    """

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
        super().__init__()
        if not all(isinstance(label, str) for label in labels):
            raise ValueError(f"labels must be names, got {checks.shown(labels)}")
        channels, size = checks.count("channels", channels), checks.count("size", size)
        exclusive = checks.flag("exclusive", exclusive)
        widths = [checks.count("widths", width) for width in widths]
        features, dropout = checks.count("features", features), checks.fraction("dropout", dropout)
        self.arguments = {
            "labels": list(labels),
            "channels": channels,
            "size": size,
            "exclusive": exclusive,
            "widths": list(widths),
            "features": features,
            "dropout": dropout,
        }
        self.labels, self.exclusive = tuple(labels), exclusive
        self.event_shape = (channels, size, size)
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
        """Images (N, C, H, W) in [0, 1] to features (N, F), before the last layer.

        Raises:
            ValueError: If the images are of another shape.
        """
        if images.shape[1:] != self.event_shape:
            raise ValueError(
                f"this judge takes images (N, {', '.join(map(str, self.event_shape))}), "
                f"got {tuple(images.shape)}"
            )
        return self.body(2 * images - 1)

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
    if name not in JUDGES:
        raise ValueError(f"there is no judge {name!r}: known are {', '.join(JUDGES)}")
    return load_frozen(FOLDER / name, "judge", Judge)


def _convolution(before: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
