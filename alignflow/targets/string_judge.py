"""A judge of strings: which of a list each is."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

__all__ = ["StringJudge"]


class StringJudge(nn.Module):
    """Logits of the strings of a list, 1 at the string and 0 elsewhere, which are features too.

    Args:
        strings: The list; the last label is that of any other string.
    """

    exclusive = True

    def __init__(self, strings: Sequence[str]):
        super().__init__()
        self.labels = (*strings, "another")

    def features(self, strings: Sequence[str]) -> Tensor:
        """The same (N, C + 1)."""
        return self(strings)

    def forward(self, strings: Sequence[str]) -> Tensor:
        """N strings to (N, C + 1)."""
        place = {label: i for i, label in enumerate(self.labels[:-1])}
        found = torch.tensor([place.get(string, len(place)) for string in strings])
        return one_hot(found, len(self.labels)).float()
