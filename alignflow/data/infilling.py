"""Strings some of whose tokens are fixed, for models that fill in the others."""

from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor

from alignflow import checks
from alignflow.draws import uniform

from .strings import Strings
from .vocabulary import Vocabulary

__all__ = ["Infilling", "fixed_tokens"]


@dataclass(frozen=True, eq=False)
class Infilling:
    """Strings, each with some of its tokens as its condition: what a model with `infill` learns.

    A row has nothing fixed, a beginning or an end of random length, or tokens anywhere, each with a
    probability that is uniform over rows.

    Args:
        strings: The data set.
        fraction: Of the rows that have tokens fixed, a third of each kind.
    """

    strings: Strings
    fraction: float = 0.5

    def __post_init__(self):
        checks.instance("strings", self.strings, Strings, "a data set of strings")
        checks.fraction("fraction", self.fraction)

    @property
    def vocabulary(self) -> Vocabulary:
        """What the strings are written in."""
        return self.strings.vocabulary

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> TensorDict:
        """n rows: one-hot `data` (n, L, V), and `condition` (n, L), -1 where a token is free."""
        generator = checks.as_generator(generator)
        rows = self.strings.draw(n, generator)
        fixed = fixed_tokens(self.strings.tokens[rows].long(), self.fraction, generator)
        drawn = {"data": self.strings.states(rows), "condition": fixed}
        return TensorDict(drawn, batch_size=len(rows))


def fixed_tokens(
    tokens: Tensor, fraction: float, generator: torch.Generator | None = None
) -> Tensor:
    """Tokens (N, L) with -1 in place of those that are free, as `Infilling` draws them."""
    n, length = tokens.shape
    device = tokens.device
    kind, size = uniform((2, n, 1), generator, device=device)
    position = torch.arange(length, device=device) / length
    anywhere = uniform((n, length), generator, device=device) < size
    third = kind / fraction if fraction else torch.full_like(kind, torch.inf)
    fixed = torch.where(third < 1 / 3, position < size, position >= size)
    fixed = torch.where(third < 2 / 3, fixed, anywhere) & (third < 1)
    return torch.where(fixed, tokens, -1)
