"""Classifiers with named labels, as the rewards that are made of them use them."""

from typing import Any

from torch import Tensor, nn

from alignflow import checks

from .classifier import load_classifier
from .images import check_images

__all__ = ["LabeledClassifier", "check_text", "labeled_classifier", "position"]


class LabeledClassifier(nn.Module):
    """Log-probabilities (N, A) of named labels, of images (N, C, H, W) in [0, 1] of any precision.

    Args:
        classifier: A module with `labels`, A names, and `log_probabilities(images)`, (N, A).
    """

    def __init__(self, classifier: Any):
        super().__init__()
        missing = [
            name for name in ("labels", "log_probabilities") if not hasattr(classifier, name)
        ]
        if missing:
            raise TypeError(
                "a classifier must have `labels` and `log_probabilities(images)`, "
                f"{type(classifier).__name__} has no {' and no '.join(missing)}"
            )
        self.classifier = classifier
        self.labels = tuple(map(str, classifier.labels))

    def forward(self, images: Tensor) -> Tensor:
        check_images(images)
        dtype = next((p.dtype for p in self.parameters()), images.dtype)
        return self.classifier.log_probabilities(images.to(dtype))


def labeled_classifier(classifier: str | nn.Module) -> LabeledClassifier:
    """A shipped classifier by name, or a module."""
    shipped = isinstance(classifier, str)
    return LabeledClassifier(load_classifier(classifier) if shipped else classifier)


def position(classifier: LabeledClassifier, label: str) -> int:
    """Which of the classifier's labels this is.

    Raises:
        ValueError: If it is none of them.
    """
    if str(label) not in classifier.labels:
        raise ValueError(
            f"there is no label {str(label)!r}: known are {', '.join(classifier.labels)}"
        )
    return classifier.labels.index(str(label))


def check_text(text: Any) -> str:
    """A text that should be read; a whole number, as a config may hold it, is one too."""
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise ValueError(f"text must be a text, got {checks.shown(text)}")
    return str(text)
