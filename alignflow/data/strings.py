"""Data sets of strings with weights, as tokens of a vocabulary."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from alignflow import checks
from alignflow.draws import uniform

from .vocabulary import Vocabulary, check_strings

__all__ = ["Strings"]


@dataclass(frozen=True, eq=False)
class Strings:
    """Strings with weights: the type of every data set of strings of this library.

    `Strings.of(strings)` makes one of texts.

    Args:
        tokens: (N, L), integers of any size.
        vocabulary: What they are tokens of.
        weights: (N,), not negative; scaled to sum to 1, and all the same by default.

    Raises:
        ValueError: If the tokens are none of the vocabulary, there are none, or the weights do not
            fit them.
    """

    tokens: Tensor
    vocabulary: Vocabulary
    weights: Tensor | None = None

    def __post_init__(self):
        checks.instance("vocabulary", self.vocabulary, Vocabulary, "a Vocabulary")
        if not isinstance(self.tokens, Tensor) or self.tokens.is_floating_point():
            raise ValueError(f"tokens must be integers (N, L), got {checks.shown(self.tokens)}")
        if not len(self.vocabulary.tokens(self.tokens)):
            raise ValueError("there must be a string, got none")
        weights = torch.ones(len(self)) if self.weights is None else self.weights
        weights = checks.as_tensor("weights", weights).double()
        if weights.shape != (len(self),):
            raise ValueError(
                f"weights must be {len(self)} numbers, one a string, got {checks.shown(weights)}"
            )
        if not (torch.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
            raise ValueError("weights must be finite, not negative, and not all 0")
        object.__setattr__(self, "weights", weights / weights.sum())

    @classmethod
    def of(
        cls,
        strings: Iterable[str],
        weights: Any = None,
        vocabulary: Vocabulary | None = None,
        length: int | None = None,
    ) -> Self:
        """A data set of texts.

        Args:
            strings: N of them, not empty.
            weights: As above.
            vocabulary: By default padding and the characters found.
            length: L; by default that of the longest.
        """
        strings = check_strings(strings)
        vocabulary = Vocabulary.of(strings) if vocabulary is None else vocabulary
        checks.instance("vocabulary", vocabulary, Vocabulary, "a Vocabulary")
        return cls(vocabulary.encode(strings, length), vocabulary, weights)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        """Number L of tokens."""
        return self.tokens.shape[1]

    @property
    def event_shape(self) -> torch.Size:
        """Shape (L, V) of one state."""
        return torch.Size((self.length, self.vocabulary.size))

    @cached_property
    def strings(self) -> list[str]:
        """The texts, as the vocabulary decodes them."""
        return self.vocabulary.decode(self.tokens)

    @cached_property
    def entropy(self) -> float:
        """Of the weights, in nats."""
        return torch.special.entr(self._probabilities).sum().item()

    def states(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Strings as one-hot states (n, L, V), float32."""
        return self.vocabulary.one_hot(self.tokens[rows], torch.float32)

    def draw(self, n: int, generator: torch.Generator | int | None = None) -> Tensor:
        """Which strings (n,) are drawn by weight, with replacement."""
        n, generator = checks.count("n", n), checks.as_generator(generator)
        device = self.tokens.device
        at = uniform((n,), generator, torch.float64, device)
        last = self._cumulative.shape[0] - 1
        rows = torch.searchsorted(self._cumulative.to(device), at, right=True)
        return self._weighted.to(device)[rows.clamp(max=last)]

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> TensorDict:
        """n strings drawn by weight, with replacement: one-hot `data` (n, L, V)."""
        rows = self.draw(n, generator)
        return TensorDict({"data": self.states(rows)}, batch_size=len(rows))

    def label(self, function: Callable[[list[str]], Any]) -> Tensor:
        """A property (N,) of each string, by a function of N texts, such as a reward; float64.

        Raises:
            ValueError: If the function answers with anything but N numbers.
        """
        checks.called("function", function, "(strings) -> numbers")
        labels = checks.as_tensor("labels", function(self.strings)).double()
        if labels.shape != (len(self),):
            raise ValueError(
                f"the function must answer with {len(self)} numbers, got {checks.shown(labels)}"
            )
        return labels

    def mean(self, function: Callable[[list[str]], Any]) -> float:
        """The weighted mean of a property: a rate, where it is 0 or 1."""
        return (self._probabilities * self.label(function)).sum().item()

    def select(self, rows: Tensor | slice | Sequence[int]) -> Self:
        """The data set of some of its rows."""
        return replace(self, tokens=self.tokens[rows], weights=self._probabilities[rows])

    @property
    def _probabilities(self) -> Tensor:
        assert self.weights is not None
        return self.weights

    @cached_property
    def _weighted(self) -> Tensor:
        """Rows of some weight: the others are never drawn."""
        return self._probabilities.nonzero().flatten()

    @cached_property
    def _cumulative(self) -> Tensor:
        return self._probabilities[self._weighted].cumsum(0)
