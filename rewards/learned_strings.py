r"""Learned rewards of strings, on soft tokens: a property, or the probability of a label.

.. math:: r(x) = f_a(x), \qquad r(x) = \sigma(f_a(x))

They see states (N, L, V) and are differentiable, where the rule or the program that they learned
from is a black box of texts. They guide; that rule or program judges.
"""

from torch import Tensor, nn

from alignflow import checks
from alignflow.reward_module import Reward

from .string_network import PropertyNetwork, StringLabelNetwork, StringNetwork

__all__ = ["LearnedProperty", "StringClassifier"]

LIKE = "a module with labels that takes soft tokens (N, L, V)"


class Output(nn.Module):
    """One of a network's numbers (N, A), (N,), of soft tokens (N, L, V) of any precision."""

    def __init__(self, label: str, network: nn.Module):
        super().__init__()
        labels = list(map(str, checks.offers("network", network, ("labels",), LIKE).labels))
        if str(label) not in labels:
            raise ValueError(f"there is no label {label!r}: known are {', '.join(labels)}")
        self.network, self.position = network, labels.index(str(label))

    def forward(self, states: Tensor) -> Tensor:
        dtype = next((p.dtype for p in self.parameters()), states.dtype)
        return self.network(states.to(dtype))[:, self.position]


class Probability(Output):
    """The same through a logistic function."""

    def forward(self, states: Tensor) -> Tensor:
        return super().forward(states).sigmoid()


class LearnedProperty(Reward):
    """What a network says of a property, in its units; differentiable, on states.

    Args:
        property: One of the network's labels: of the shipped ones "qed" or "logp".
        network: Name of a shipped network ("fragments", "molecules"), or a module with `labels`
            that gives numbers (N, A) of soft tokens (N, L, V). The policy's vocabulary must be the
            one that it learned.
        name: What errors and reports call it; by default learned_<property>.
    """

    def __init__(self, property: str, network: str | nn.Module, name: str | None = None):
        output = Output(property, _loaded(network, PropertyNetwork))
        named = f"learned_{property}" if name is None else name
        super().__init__(output, named, differentiable=True, space="state")


class StringClassifier(Reward):
    """Probability that a string has a label, in [0, 1]; differentiable, on states.

    Args:
        label: One of the network's labels.
        network: Name of a shipped network ("names"), or a module with `labels` that gives logits
            (N, A) of soft tokens (N, L, V), in the policy's vocabulary.
        name: What errors and reports call it; by default the label.
    """

    def __init__(self, label: str, network: str | nn.Module = "names", name: str | None = None):
        output = Probability(label, _loaded(network, StringLabelNetwork))
        named = str(label) if name is None else name
        super().__init__(output, named, differentiable=True, space="state")


def _loaded(network: str | nn.Module, kind: type[StringNetwork]) -> nn.Module:
    return kind.load_shipped(network) if isinstance(network, str) else network
