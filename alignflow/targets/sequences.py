r"""A list of strings with known weights as an exact model of one-hot states, and every tilt of it.

.. math:: p(x_1 = i \mid x_t) = \mathrm{softmax}_i \Big( \log w_i
    + \frac{t}{(1-t)^2} \sum_l x_{t, l, k_{il}} \Big)

The k_i are the tokens of string i. All one-hot states have one norm, so a posterior is a matrix
product with the list, streamed as that of any stored data. A condition fixes tokens: strings that
differ from it there have probability 0.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from alignflow import checks
from alignflow.data.strings import Strings
from alignflow.data.vocabulary import Vocabulary
from alignflow.ode import integrate
from alignflow.simplex import check_fixed_tokens
from alignflow.tilt import Tilt

from .empirical import STRAIGHT, Empirical
from .exact import ExactFlowMap
from .row_distributions import RowDistributions
from .row_posterior import row_posterior
from .stored_rows import StoredRows, check_log_weight

__all__ = ["Sequences"]


class Sequences(Empirical):
    """The distribution of a list of strings: all but its flow map is exact, as of `Empirical`.

    The flow map follows its ODE in -log(1-t), where it is smooth to the end. A condition is fixed
    tokens (N, L), or one row for all, -1 where free, as `Vocabulary.template` writes them.

    Args:
        strings: N texts, their tokens (N, L), or a data set with its weights and vocabulary.
        weights: Of the strings, (N,), not negative, up to a factor; equal by default.
        vocabulary: What the strings are written in; by default their characters. Beside tokens it
            may be the number V of them, and states decode to tokens.
        chunk: Strings read at once.

    Attributes:
        vocabulary: The same; None where only the number of tokens was given.

    Raises:
        ValueError: If the strings are none of the vocabulary, or the weights none of them.
    """

    conditional = True

    def __init__(
        self,
        strings: Sequence[str] | Tensor | Strings,
        weights: Tensor | Sequence[float] | None = None,
        vocabulary: Vocabulary | int | None = None,
        chunk: int = 1024,
    ):
        if isinstance(strings, Strings):
            if weights is not None or vocabulary is not None:
                raise ValueError("a data set of strings has its own weights and vocabulary")
            weights, vocabulary, strings = strings.weights, strings.vocabulary, strings.tokens
        tokens, size, vocabulary = _tokens(strings, vocabulary)
        ExactFlowMap.__init__(self, (tokens.shape[1], size))
        self.vocabulary = vocabulary
        weights = torch.ones(len(tokens)) if weights is None else weights
        self.rows = self._stored(tokens, _log_weight(weights, len(tokens)), chunk)
        self.register_buffer("data", tokens)
        self.register_buffer("log_weight", self.rows.log_weight)

    @classmethod
    def random(
        cls, length: int, vocabulary: Vocabulary | int, seed: int = 0, std: float = 1.0
    ) -> Self:
        """All strings of a length, weighted by the soft-max of independent Gaussian logits.

        Args:
            length: L, in tokens.
            vocabulary: What the V^L strings are written in, or the number V of its tokens.
            seed: Which member of the family.
            std: Of the logits; at 0 all strings have one weight.
        """
        length, std = checks.count("length", length), checks.nonnegative("std", std)
        known = isinstance(vocabulary, Vocabulary)
        size = vocabulary.size if known else checks.count("vocabulary", vocabulary)
        tokens = torch.cartesian_prod(*[torch.arange(size)] * length).reshape(-1, length)
        generator = torch.Generator().manual_seed(checks.count("seed", seed, least=0))
        logits = std * torch.randn(len(tokens), generator=generator, dtype=torch.float64)
        return cls(tokens, logits.softmax(0), vocabulary)

    @property
    def strings(self) -> Any:
        """The N strings; their tokens (N, L) where there is no vocabulary."""
        return self.data if self.vocabulary is None else self.vocabulary.decode(self.data)

    @property
    def weights(self) -> Tensor:
        """Of the strings, (N,), float64; their sum is 1."""
        return self.log_weight.softmax(0)

    def given(self, condition: Any) -> Self:
        """The distribution of the strings that agree with fixed tokens, (L,) or (1, L).

        Raises:
            ValueError: If none of them does.
        """
        row = checks.as_tensor("condition", condition).reshape(1, -1).to(self.data.device)
        self.check_condition(row)
        differ = ((row >= 0) & (self.data != row)).any(1)
        log_weight = self.log_weight.masked_fill(differ, -torch.inf)
        if log_weight.isneginf().all():
            raise ValueError("no string with a weight agrees with the condition")
        return self._reweighted(log_weight)

    def check_condition(self, condition: Any) -> None:
        if condition is not None:
            check_fixed_tokens(condition, self.event_shape)

    def total_variation(self, x: Tensor | Sequence[str]) -> Tensor:
        """Distance, in [0, 1], from the frequencies of drawn strings to the weights.

        Args:
            x: Draws, as states (n, L, V), whose likeliest tokens count, or as n texts.
        """
        if isinstance(x, Tensor):
            self.check_state(x)
            rows = torch.cat([self.data, x.argmax(-1).to(self.data)])
        else:
            numbers: dict[Any, int] = {}
            texts = [*self.strings, *x]
            rows = self.data.new_tensor([[numbers.setdefault(q, len(numbers))] for q in texts])
        found, place = rows.unique(dim=0, return_inverse=True)
        weight = torch.cat([self.weights, self.weights.new_full((len(x),), -1 / len(x))])
        return weight.new_zeros(len(found)).index_add(0, place, weight).abs().sum() / 2

    def decode(self, x: Tensor, **options: Any) -> Any:
        return x.argmax(-1) if self.vocabulary is None else self.vocabulary(x, **options)

    def _follow(self, x: Tensor, s: Tensor, t: Tensor, condition: Any) -> Tensor:
        def change(x: Tensor, distance: Tensor) -> Tensor:
            return self.denoiser(x, -torch.expm1(-distance), condition) - x

        # where s = t is later than that, nothing moves
        start, end = (-torch.log1p(-r.clamp(max=STRAIGHT)) for r in (s, t))
        return integrate(change, x, start, end)

    def _tilted(self, tilt: Tilt) -> Self:
        return self._reweighted(self._tilted_log_weight(tilt))

    def _reweighted(self, log_weight: Tensor) -> Self:
        """The same strings with other log-weights."""
        check_log_weight(log_weight, len(self.data))
        vocabulary = self.event_shape[1] if self.vocabulary is None else self.vocabulary
        other = type(self)(self.data, None, vocabulary, self.rows.chunk)
        other.log_weight = log_weight
        other.rows = replace(other.rows, log_weight=log_weight)
        return other

    def _conditional_draws(
        self, condition: Any, n: int, generator: torch.Generator | None
    ) -> Tensor:
        anywhere = self.log_weight.new_zeros((n, *self.event_shape), dtype=self.dtype)
        return self.posterior_sample(anywhere, 0.0, 1, generator, condition)[:, 0]

    def _posterior(self, x: Tensor, time: Tensor, condition: Any = None) -> RowDistributions:
        if condition is None:
            return super()._posterior(x, time)
        rows = self.condition_rows(condition, len(x)).to(x.device)
        # a free position has no token, as a row of zeros
        fixed = one_hot(rows + 1, self.event_shape[1] + 1)[..., 1:]
        return row_posterior(self.rows, x.flatten(1), time, fixed.flatten(1))

    def _stored(self, data: Tensor, log_weight: Tensor, chunk: int) -> StoredRows:
        chunk, size = checks.count("chunk", chunk), self.event_shape[1]
        check_log_weight(log_weight, len(data))
        position = torch.arange(data.shape[1], device=data.device)
        ones = torch.ones((), dtype=torch.float64, device=data.device).expand(data.shape)
        center = ones.new_zeros(self.event_shape)
        center.index_put_((position.expand_as(data), data), ones / len(data), accumulate=True)
        # |one-hot|^2 - 2 c x + |c|^2
        squares = data.shape[1] - 2 * center[position, data].sum(1) + center.square().sum()
        as_states = partial(_one_hot, size=size)
        return StoredRows(
            data, log_weight.to(ones), center.flatten(), squares.clamp(min=0), chunk, as_states
        )


def _one_hot(tokens: Tensor, size: int) -> Tensor:
    return one_hot(tokens, size).float()


def _tokens(strings: Any, vocabulary: Any) -> tuple[Tensor, int, Vocabulary | None]:
    """Tokens (N, L), their number, and what they are written in."""
    if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
        size = checks.count("vocabulary", vocabulary)
        tokens = checks.as_tensor("strings", strings)
        whole = not (tokens.is_floating_point() or tokens.is_complex())
        if tokens.ndim != 2 or not tokens.numel() or not whole or tokens.dtype == torch.bool:
            raise ValueError(f"strings must be tokens (N, L) here, got {checks.shown(tokens)}")
        if tokens.min() < 0 or tokens.max() >= size:
            raise ValueError(f"tokens must be whole numbers from 0 to {size - 1}")
        return tokens.long(), size, None
    if isinstance(strings, Tensor):
        if vocabulary is None:
            raise ValueError("tokens need a vocabulary, or the number of tokens: vocabulary=V")
        return vocabulary.tokens(strings), vocabulary.size, vocabulary
    vocabulary = Vocabulary.of(strings) if vocabulary is None else vocabulary
    return vocabulary.encode(strings), vocabulary.size, vocabulary


def _log_weight(weights: Any, n: int) -> Tensor:
    weights = checks.as_tensor("weights", weights).double()
    if weights.shape != (n,) or not torch.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(
            f"weights must be {n} numbers of at least 0, one a string, got {checks.shown(weights)}"
        )
    return weights.log()
