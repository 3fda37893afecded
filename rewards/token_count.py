r"""Token count: how many of a string's tokens are given symbols, from the states themselves.

.. math:: r(x) = \sum_l \sum_{k \in \mathrm{symbols}} x_{lk}

On one-hot states it is the number of them, on soft tokens what is expected of it.
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from alignflow import checks
from alignflow.data import Vocabulary
from alignflow.reward_module import Reward

__all__ = ["TokenCount", "token_count"]


def token_count(states: Tensor, columns: Tensor) -> Tensor:
    """Sum (N,) of states (N, L, V) over the columns of some symbols, (V,) of 0 and 1."""
    if states.ndim != 3 or states.shape[2] != len(columns):
        raise ValueError(
            f"it takes states (N, L, {len(columns)}) of its vocabulary, got {tuple(states.shape)}"
        )
    return (states @ columns.to(states)).sum(1)


class TokenCount(Reward):
    """The number of tokens that are given symbols, on states; differentiable, and linear.

    Args:
        vocabulary: Of the policy.
        symbols: Some of its symbols, such as "aeiou", or ["[N]", "[=N]"].
        name: What errors and reports call it.

    Raises:
        ValueError: If one is no symbol of the vocabulary.
    """

    def __init__(self, vocabulary: Vocabulary, symbols: Iterable[str], name: str = "token_count"):
        checks.instance("vocabulary", vocabulary, Vocabulary, "a Vocabulary")
        if not isinstance(symbols, Iterable):
            raise ValueError(f"symbols must be some of a vocabulary, got {checks.shown(symbols)}")
        wanted = {checks.choice("each symbol", symbol, vocabulary.symbols) for symbol in symbols}
        columns = torch.tensor([float(symbol in wanted) for symbol in vocabulary.symbols])
        function = partial(token_count, columns=columns)
        super().__init__(function, name, differentiable=True, space="state")
