r"""Attributes: whether a classifier sees one in the image, as probability, logarithm or verdict.

.. math:: r(x) = p(a \mid x), \quad r(x) = \log p(a \mid x), \quad r(x) = 1[p(a \mid x) \ge \theta]

They are three rewards because their tilts differ: with strength lambda the first and the last
multiply the odds of a clear attribute by e^lambda, the second multiplies the density by
p(a|x)^lambda, which at lambda = 1 is Bayes' rule.
"""

from torch import Tensor, nn

from alignflow import checks
from alignflow.reward_module import Reward

from .labels import labeled_classifier, position

__all__ = ["Attribute", "AttributeIndicator", "AttributeLogProbability"]


class LogProbability(nn.Module):
    """log p(label | image), images (N, C, H, W) in [0, 1] to (N,)."""

    def __init__(self, label: str, classifier: str | nn.Module):
        super().__init__()
        self.classifier = labeled_classifier(classifier)
        self.position = position(self.classifier, label)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(images)[:, self.position]


class Probability(LogProbability):
    """p(label | image), likewise."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).exp()


class Attribute(Reward):
    """Probability that the image has an attribute, in [0, 1]; differentiable.

    Args:
        name: One of the classifier's labels, such as "glasses"; also the reward's name.
        classifier: Name of a shipped classifier ("avatars", "digits", "glyphs"), or a module with
            `labels` and `log_probabilities(images)`.
    """

    def __init__(self, name: str, classifier: str | nn.Module = "avatars"):
        super().__init__(Probability(name, classifier), str(name), differentiable=True)


class AttributeLogProbability(Reward):
    """Log-probability that the image has an attribute, in nats, at most 0; differentiable.

    Args:
        name: As in `Attribute`; the reward is called log_<name>.
        classifier: As in `Attribute`.
    """

    def __init__(self, name: str, classifier: str | nn.Module = "avatars"):
        super().__init__(LogProbability(name, classifier), f"log_{name}", differentiable=True)


class AttributeIndicator(Reward):
    """Whether the image has an attribute, 0 or 1; a black box.

    Args:
        name: As in `Attribute`; the reward is called has_<name>.
        threshold: Least probability that counts as having it, in (0, 1).
        classifier: As in `Attribute`.
    """

    def __init__(self, name: str, threshold: float = 0.5, classifier: str | nn.Module = "avatars"):
        threshold = checks.fraction("threshold", threshold, zero=False, one=False)
        super().__init__(_Indicator(name, threshold, classifier), f"has_{name}")


class _Indicator(Probability):
    def __init__(self, label: str, threshold: float, classifier: str | nn.Module):
        super().__init__(label, classifier)
        self.threshold = threshold

    def forward(self, images: Tensor) -> Tensor:
        return (super().forward(images) >= self.threshold).float()
