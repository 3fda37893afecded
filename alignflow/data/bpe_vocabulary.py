"""Byte-pair encoding: symbols of several characters, learned from strings.

Source: Sennrich, Haddow and Birch 2016, "Neural machine translation of rare words with subword
units"; the package `tokenizers`. Here the smallest pieces are characters.
"""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Self

from alignflow import checks
from alignflow.decoding import register_decoder

from .vocabulary import END, PADDING, Vocabulary, check_strings

__all__ = ["BPEVocabulary"]

WORD = r" ?[^ ]+| +"  # within which characters merge: a word and the space before it


@register_decoder("bpe")
class BPEVocabulary(Vocabulary):
    """A vocabulary whose symbols are merged from characters; needs alignflow[text].

    Args:
        symbols: All of them: padding, perhaps an end, characters and merged pieces.
        merges: Pairs of symbols, in the order in which they merge.
        padding: As in `Vocabulary`.
        end: As in `Vocabulary`.

    Raises:
        ValueError: If a merge is no pair of symbols that makes a symbol.
    """

    def __init__(
        self,
        symbols: Iterable[str],
        merges: Iterable[Sequence[str]],
        padding: str = PADDING,
        end: str = END,
    ):
        super().__init__(symbols, padding, end)
        self.merges = _check_merges(merges, self._writing)
        self.arguments = {**self.arguments, "merges": [list(pair) for pair in self.merges]}

    @classmethod
    def of(cls, strings: Iterable[str], size: int = 512) -> Self:
        """Padding, the characters of strings, and what most often stands together in them.

        Args:
            strings: To learn from.
            size: Number V of symbols, padding among them; less if no two symbols stand together
                twice.

        Raises:
            ValueError: If there are more characters than that.
        """
        strings = check_strings(strings)
        characters = sorted(set().union(*strings))
        size = checks.count("size", size, least=len(characters) + 1)
        tokenizers = _tokenizers()
        tokenizer = _empty(tokenizers, [], {})
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=size - 1,
            initial_alphabet=characters,
            min_frequency=2,
            show_progress=False,
        )
        tokenizer.train_from_iterator(strings, trainer)
        model = json.loads(tokenizer.to_str())["model"]
        by_id = sorted(model["vocab"], key=model["vocab"].__getitem__)
        return cls([PADDING, *by_id], model["merges"])

    def split(self, strings: Sequence[str]) -> list[list[int]]:
        """The tokens of each string.

        Raises:
            ValueError: If a string holds a character that is no symbol.
        """
        known = set(self._writing)
        for i, string in enumerate(strings):
            if not known.issuperset(string):  # which the package would leave out
                place = next(k for k, character in enumerate(string) if character not in known)
                self._refuse_symbol(string, i, place)
        return [encoded.ids for encoded in self._tokenizer.encode_batch_fast(list(strings))]

    @cached_property
    def _tokenizer(self) -> Any:
        return _empty(_tokenizers(), self.merges, self._writing)


def _empty(tokenizers: Any, merges: Sequence[tuple[str, str]], vocabulary: dict[str, int]) -> Any:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, list(merges)))
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(WORD), "isolated")
    tokenizer.pre_tokenizer = split
    return tokenizer


def _check_merges(merges: Any, writing: dict[str, int]) -> tuple[tuple[str, str], ...]:
    if isinstance(merges, str | bytes) or not isinstance(merges, Iterable):
        raise ValueError(f"merges must be pairs of symbols, got {checks.shown(merges)}")
    pairs = []
    for pair in merges:
        pair = (pair,) if isinstance(pair, str) or not isinstance(pair, Iterable) else tuple(pair)
        if len(pair) != 2 or not {*pair, "".join(map(str, pair))} <= set(writing):
            raise ValueError(
                "each merge must be a pair of symbols that together make a symbol, got "
                f"{checks.shown(pair)}"
            )
        pairs.append(pair)
    return tuple(pairs)


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError(
            "pieces of text need the package tokenizers: pip install 'alignflow[text]'"
        ) from error
    return tokenizers
