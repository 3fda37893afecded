"""Vocabularies: strings as tokens and one-hot states, and back.

A vocabulary is the decoder of a policy on the simplex: it is saved with the policy, and what people
and rewards see of states (N, L, V) are N strings.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import zip_longest
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from alignflow import checks
from alignflow.decoding import Decoder, register_decoder
from alignflow.simplex import draw_tokens, one_hot_states

from .templates import Template

__all__ = ["Vocabulary", "check_strings"]

PADDING, END = "<pad>", "<end>"
ROWS = 8192  # decoded at a time, which bounds the memory that it takes


@register_decoder("vocabulary")
class Vocabulary(Decoder):
    """The symbols that strings are written in, by longest match; token i is symbol i.

    A string ends at the first padding or end. Padding fills a string up to the length of the
    states; without it all strings must have that many symbols.

    Args:
        symbols: Texts of a character or several, each once, padding and end among them if there
            are any.
        padding: The symbol that pads, if it is among the symbols.
        end: The symbol that ends a string before its padding, if it is among the symbols.

    Attributes:
        unknown: A regular expression: what is taken for a symbol where none is.

    Raises:
        ValueError: If a symbol is empty, no text or there twice, or none is left to write with.
    """

    unknown = "."

    def __init__(self, symbols: Iterable[str], padding: str = PADDING, end: str = END):
        super().__init__()
        self.symbols = _check_symbols(symbols)
        self.padding = checks.instance("padding", padding, str, "a text")
        self.end = checks.instance("end", end, str, "a text")
        self.arguments = {"symbols": list(self.symbols), "padding": padding, "end": end}
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols)}
        if padding == end or not set(self.symbols) - {padding, end}:
            raise ValueError(
                "a vocabulary needs a symbol beside a padding and an end that differ, "
                f"got {checks.shown(list(self.symbols))}"
            )

    @classmethod
    def of(cls, strings: Iterable[str]) -> Self:
        """Padding, and the characters found in strings, in order."""
        return cls([PADDING, *sorted(set().union(*check_strings(strings)))])

    @property
    def size(self) -> int:
        """Number V of symbols."""
        return len(self.symbols)

    def encode(self, strings: Sequence[str], length: int | None = None) -> Tensor:
        """Tokens (N, L), int64, of N strings: its symbols, the end if there is one, and padding.

        Args:
            strings: N of them, not empty.
            length: L; by default that of the longest.

        Raises:
            ValueError: If a string is empty, too long, or holds what is no symbol.
        """
        strings = check_strings(strings)
        rows = self.split(strings)
        ends = [self._ids[self.end]] if self.end in self._ids else []
        lengths = np.fromiter((len(row) + len(ends) for row in rows), np.int64, len(rows))
        longest = int(lengths.max(initial=1))
        length = longest if length is None else checks.count("length", length)
        self._check_lengths(strings, lengths, length)
        tokens = np.full((len(rows), length), self._ids.get(self.padding, 0))
        filled = np.arange(length) < lengths[:, None]
        tokens[filled] = [token for row in rows for token in (*row, *ends)]
        return torch.from_numpy(tokens)

    def split(self, strings: Sequence[str]) -> list[list[int]]:
        """The tokens of each string, without end and padding.

        Raises:
            ValueError: If a string holds what is no symbol.
        """
        writing = self._writing
        rows = [[writing.get(part, -1) for part in self._pattern.findall(s)] for s in strings]
        for i, row in enumerate(rows):
            if -1 in row:
                before = row.index(-1)
                parts = self._pattern.findall(strings[i])
                self._refuse_symbol(parts[before], len("".join(parts[:before])), strings[i], i)
        return rows

    def template(
        self, patterns: str | Sequence[str], length: int, free: str = "_", rest: str = "*"
    ) -> Tensor:
        """Patterns as the condition of a model that fills in: token ids (N, L), -1 where free.

        "m_r*" starts with m and has r in the third place, "*son" fills all L places and ends with
        son, and "m__y" has four symbols, after which the string ends.

        Args:
            patterns: One, or N of them, of strings as `split` takes them between the free places.
            length: L.
            free: The character for a free place, which any token may fill.
            rest: The character for all places that are left, once a pattern.

        Raises:
            ValueError: If a pattern leaves nothing free, is too long, or holds what is no symbol.
        """
        length = checks.count("length", length)
        template = Template(
            free,
            rest,
            symbols=self._ids,
            split=lambda text: self.split([text])[0],
            end=self._ids.get(self.end),
            padding=self._ids.get(self.padding),
        )
        patterns = check_strings([patterns] if isinstance(patterns, str) else patterns)
        return torch.tensor([template.tokens(pattern, length) for pattern in patterns])

    def decode(
        self,
        tokens: Any,
        temperature: float | None = None,
        generator: torch.Generator | int | None = None,
    ) -> list[str]:
        """The strings of tokens (N, L), or of soft tokens (N, L, V).

        Args:
            tokens: Either of them.
            temperature: At which soft tokens are drawn, as `draw` does; None takes the likeliest.
            generator: Source of the draws, or its seed.

        Raises:
            ValueError: If a token is none of the vocabulary, or the shape is another.
        """
        drawn = tokens if temperature is None else self.draw(tokens, temperature, generator)
        ids = self.tokens(drawn).cpu().numpy()
        spelling, ending = self._spelling, self._ending
        strings = []
        for start in range(0, len(ids), ROWS):
            rows = ids[start : start + ROWS]
            written = ~np.logical_or.accumulate(ending[rows], axis=1)
            letters = np.ascontiguousarray(np.where(written, spelling[rows], ""))
            joined = letters.view(f"<U{letters.itemsize // 4 * rows.shape[1]}")[:, 0]
            # symbols shorter than the longest leave NULs between them
            strings += [string.replace("\0", "") for string in joined.tolist()]
        return strings

    def forward(self, x: Tensor, **options: Any) -> list[str]:
        return self.decode(x, **options)

    def check_event_shape(self, event_shape: Sequence[int]) -> None:
        if len(event_shape) != 2 or event_shape[1] != self.size:
            raise ValueError(
                f"a vocabulary of {self.size} symbols decodes states of shape (L, {self.size}), "
                f"and event_shape is {tuple(event_shape)}"
            )

    def check_same(self, other: Decoder) -> None:
        if not isinstance(other, Vocabulary) or other.arguments == self.arguments:
            return
        pairs = enumerate(zip_longest(self.symbols, other.symbols))
        differ = (f"token {i} is {a!r} here and {b!r} there" for i, (a, b) in pairs if a != b)
        raise ValueError(
            f"there are two vocabularies, of {self.size} symbols here and {other.size} there: "
            f"{next(differ, 'they split strings differently')}"
        )

    def canonical(self, strings: Sequence[str]) -> list[str]:
        """Of each text the one that stands for all that mean the same; here itself."""
        return list(strings)

    def tokens(self, tokens: Any) -> Tensor:
        """Tokens (N, L) as they are, checked, or of soft tokens (N, L, V) the likeliest ones.

        Raises:
            ValueError: If a token is none of the vocabulary, or the shape is another.
        """
        tokens = checks.as_tensor("tokens", tokens)
        soft = tokens.is_floating_point()
        integer = not soft and not tokens.is_complex() and tokens.dtype != torch.bool
        fits = tokens.ndim == 3 and tokens.shape[2] == self.size if soft else tokens.ndim == 2
        if not (soft or integer) or not fits or not tokens.shape[1]:
            raise ValueError(
                f"tokens must be whole numbers (N, L), or soft tokens (N, L, {self.size}), got "
                f"{tokens.dtype} of shape {tuple(tokens.shape)}"
            )
        if soft:
            if not torch.isfinite(tokens).all():
                raise ValueError("soft tokens must be finite, got NaN or infinity among them")
            return tokens.argmax(-1)
        outside = (tokens < 0) | (tokens >= self.size)
        if outside.any():
            row, place = outside.nonzero()[0].tolist()
            raise ValueError(
                f"tokens must be from 0 to {self.size - 1}, got {tokens[row, place].item()} in "
                f"row {row} at position {place}"
            )
        return tokens.long()

    def draw(
        self,
        soft: Tensor,
        temperature: float = 1.0,
        generator: torch.Generator | int | None = None,
    ) -> Tensor:
        """Tokens (N, L) drawn one by one by probabilities (N, L, V) to the power 1 / temperature.

        Raises:
            ValueError: If they are of another shape, below 0, or all 0 at a position.
        """
        self.tokens(soft)  # the checks
        return draw_tokens(soft, temperature, checks.as_generator(generator))

    def one_hot(self, tokens: Any, dtype: torch.dtype | None = None) -> Tensor:
        """States (N, L, V) of tokens (N, L), in the default precision unless told."""
        return one_hot_states(self.tokens(tokens), self.size, dtype)

    def extra_repr(self) -> str:
        return f"{self.size} symbols"

    @cached_property
    def _writing(self) -> dict[str, int]:
        """The tokens of the symbols that strings are written in."""
        return {s: i for s, i in self._ids.items() if s not in (self.padding, self.end)}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._writing, key=len, reverse=True)
        return re.compile("|".join([*map(re.escape, longest_first), self.unknown]), re.DOTALL)

    @cached_property
    def _spelling(self) -> np.ndarray:
        return np.array([s if s in self._writing else "" for s in self.symbols])

    @cached_property
    def _ending(self) -> np.ndarray:
        return np.array([s not in self._writing for s in self.symbols])

    def _refuse_symbol(self, wrong: str, place: int, string: str, index: int) -> None:
        known = " ".join(list(self._writing)[:100])
        near = wrong.swapcase() if wrong.swapcase() in self._writing else wrong
        hint = checks.did_you_mean(near, self._writing)
        raise ValueError(
            f"string {index} ({checks.shown(string)}) holds {wrong!r} at position {place}, which "
            f"is no symbol of the vocabulary ({known}){hint}"
        )

    def _check_lengths(self, strings: Sequence[str], lengths: np.ndarray, length: int) -> None:
        if (lengths > length).any():
            i = int((lengths > length).argmax())
            raise ValueError(
                f"string {i} ({checks.shown(strings[i])}) takes {lengths[i]} tokens, more than "
                f"length={length}"
            )
        if self.padding not in self._ids and (lengths < length).any():
            i = int((lengths < length).argmax())
            raise ValueError(
                f"string {i} ({checks.shown(strings[i])}) takes {lengths[i]} tokens of {length}, "
                f"and the vocabulary has no padding: put {self.padding!r} among its symbols"
            )


def check_strings(strings: Any) -> list[str]:
    """Several strings, none of them empty.

    Raises:
        ValueError: If there is one alone, or one is empty or no text.
    """
    if isinstance(strings, str | bytes) or not isinstance(strings, Iterable):
        raise ValueError(f"strings must be several texts, got {checks.shown(strings)}")
    strings = list(strings)
    for i, string in enumerate(strings):
        if not isinstance(string, str) or not string:
            kind = "empty" if string == "" else f"no text but {checks.shown(string)}"
            raise ValueError(f"each string must be a text that is not empty, string {i} is {kind}")
    return strings


def _check_symbols(symbols: Any) -> tuple[str, ...]:
    if isinstance(symbols, bytes) or not isinstance(symbols, Iterable):
        raise ValueError(f"symbols must be several texts, got {checks.shown(symbols)}")
    symbols, seen = tuple(symbols), set()
    for i, symbol in enumerate(symbols):
        if not isinstance(symbol, str) or not symbol or "\0" in symbol:
            raise ValueError(
                "each symbol must be a text that is not empty and holds no NUL, symbol "
                f"{i} is {checks.shown(symbol)}"
            )
        if symbol in seen:
            raise ValueError(f"each symbol must be there once, {symbol!r} is twice")
        seen.add(symbol)
    return symbols
