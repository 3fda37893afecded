r"""A mixture of classes: the log-probability that the image is of one of them, weighted.

.. math:: r(x) = \log \sum_i w_i \, p(y_i \mid x), \qquad \sum_i w_i = 1

Source: the class-mixture reward of Meta Flow Maps.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from alignflow import checks
from alignflow.reward_module import Reward

from .labels import LabeledClassifier, labeled_classifier, position

__all__ = ["ClassMixture"]


class MixtureLogProbability(nn.Module):
    """Log-probability (N,) of the mixture, of images (N, C, H, W) in [0, 1].

    Args:
        weights: (A,), one for each label.
        classifier: Gives log-probabilities (N, A).
    """

    positions: Tensor
    log_weights: Tensor

    def __init__(self, weights: Tensor, classifier: LabeledClassifier):
        super().__init__()
        self.classifier = classifier
        self.register_buffer("positions", weights.nonzero().flatten())
        self.register_buffer("log_weights", (weights[self.positions] / weights.sum()).log())

    def forward(self, images: Tensor) -> Tensor:
        log_probabilities = self.classifier(images)[:, self.positions]
        return (log_probabilities + self.log_weights.to(log_probabilities)).logsumexp(1)


class ClassMixture(Reward):
    """Log-probability of a weighted mixture of classes, in nats, at most 0; differentiable.

    Args:
        weights: One for each class, or some by label; not negative, and scaled to sum to 1.
        classifier: Name of a shipped classifier of classes ("digits", "glyphs"), or a module with
            `labels` and `log_probabilities(images)`.
        name: What errors and reports call it.
    """

    def __init__(
        self,
        weights: Sequence[float] | Mapping[str, float],
        classifier: str | nn.Module = "digits",
        name: str = "class_mixture",
    ):
        labeled = labeled_classifier(classifier)
        if not getattr(labeled.classifier, "exclusive", True):
            raise ValueError("a mixture needs a classifier of classes, this one is of attributes")
        mixture = MixtureLogProbability(_weights(weights, labeled), labeled)
        super().__init__(mixture, name, differentiable=True)


def _weights(weights: Sequence[float] | Mapping[str, float], classifier: LabeledClassifier):
    full = [0.0] * len(classifier.labels)
    if isinstance(weights, Mapping):
        for label, weight in weights.items():
            full[position(classifier, label)] = checks.nonnegative(f"weight of {label}", weight)
    elif isinstance(weights, str) or not isinstance(weights, Iterable):
        raise ValueError(f"weights must be numbers or a mapping, got {checks.shown(weights)}")
    else:
        full = [checks.nonnegative("each weight", weight) for weight in weights]
    if len(full) != len(classifier.labels):
        raise ValueError(f"weights must be {len(classifier.labels)} numbers, got {len(full)}")
    if not sum(full) > 0:
        raise ValueError(f"weights must not be negative, and not all zero, got {full}")
    return torch.tensor(full, dtype=torch.get_default_dtype())
