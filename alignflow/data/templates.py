"""Templates: patterns of strings with free places, as fixed tokens for models that fill in."""

import re
from collections.abc import Callable, Container
from dataclasses import dataclass

from alignflow import checks

__all__ = ["Template"]

FREE, REST = -1, -2  # a free place, and all that are left


@dataclass(frozen=True)
class Template:
    """How patterns are read.

    Args:
        free: The character for a free place, which any token may fill.
        rest: The character for all places that are left, once a pattern.
        symbols: Which neither of the two may be.
        split: A callable (text) -> its tokens.
        end: The token that ends a string before its padding, if there is one.
        padding: The token that fills a string up, if there is one.

    Raises:
        ValueError: If free and rest are not two characters beside the symbols.
    """

    free: str
    rest: str
    symbols: Container[str]
    split: Callable[[str], list[int]]
    end: int | None
    padding: int | None

    def __post_init__(self):
        for name, character in (("free", self.free), ("rest", self.rest)):
            if not isinstance(character, str) or len(character) != 1 or character in self.symbols:
                raise ValueError(
                    f"{name} must be a character that is no symbol, got {checks.shown(character)}"
                )
        if self.free == self.rest:
            raise ValueError(f"free and rest must differ, got {self.free!r} for both")

    def tokens(self, pattern: str, length: int) -> list[int]:
        """The L tokens of a pattern, -1 where free.

        Raises:
            ValueError: If it leaves nothing free, is too long, or holds what is no symbol.
        """
        row = self._written(pattern)
        starred, shown = row.count(REST), f"the pattern {checks.shown(pattern)}"
        left = length - len(row) + starred
        if starred > 1:
            raise ValueError(f"{shown} has {self.rest!r} more than once")
        if left < 0:
            raise ValueError(f"{shown} takes {length - left} tokens, more than length={length}")
        if starred:
            place = row.index(REST)
            row[place : place + 1] = [FREE] * left
        elif left and self.padding is None:
            raise ValueError(f"{shown} leaves {left} places, and the vocabulary has no padding")
        else:
            row += [self.padding or 0] * left
        if FREE not in row:
            raise ValueError(f"{shown} fixes all {length} tokens: nothing is left to fill in")
        return row

    def _written(self, pattern: str) -> list[int]:
        """Tokens, free places and rests, and the end where the pattern is one of whole strings."""
        row: list[int] = []
        for part in filter(None, re.split(f"([{re.escape(self.free + self.rest)}])", pattern)):
            row += {self.free: [FREE], self.rest: [REST]}.get(part) or self.split(part)
        return row if self.end is None or row[-1] == REST else [*row, self.end]
