"""Sentences: short glosses and examples of WordNet, in small letters.

There are more sentences than these, so models are judged on held-out ones.

Source: Miller 1995, "WordNet: a lexical database for English"; version 3.1.
"""

import hashlib
import lzma
from functools import cache
from pathlib import Path

from torch import Tensor

from alignflow import checks

from .bpe_vocabulary import BPEVocabulary
from .strings import Strings
from .vocabulary import PADDING, Vocabulary

__all__ = ["SENTENCE_SPLITS", "sentences"]

PATH = Path(__file__).parent / "shipped" / "sentences.txt.xz"
LONGEST = 64  # characters
CHARACTERS = " ',-.;abcdefghijklmnopqrstuvwxyz"
HELD_OUT = 5_000
SENTENCE_SPLITS = ("train", "test")


def sentences(
    split: str = "train", vocabulary: int | None = None, length: int | None = None
) -> Strings:
    """Sentences of up to 64 characters, 34 on average, all distinct and of equal weights.

    Args:
        split: "train" (107,157 sentences) or "test" (5,000).
        vocabulary: A number V of pieces, merged from the characters of the training sentences
            (needs alignflow[text]); by default the characters, V = 33.
        length: Tokens L; sentences of more are left out. By default that of the longest sentence.

    Raises:
        ValueError: If there is no such split, or a number is not in its range.
        ImportError: If pieces are wanted, and the package that merges them is not installed.
    """
    split = checks.choice("split", split, SENTENCE_SPLITS)
    if vocabulary is not None:
        vocabulary = checks.count("vocabulary", vocabulary, least=len(CHARACTERS) + 1)
    symbols, tokens = _encoded(vocabulary)
    longest = tokens.shape[1]
    length = longest if length is None else checks.count("length", length, most=longest)
    rows = tokens[HELD_OUT:] if split == "train" else tokens[:HELD_OUT]
    return Strings(rows[(rows[:, length:] == 0).all(1), :length], symbols)


@cache
def _encoded(size: int | None) -> tuple[Vocabulary, Tensor]:
    """A vocabulary of characters or pieces, and all sentences in it, of one length."""
    texts = _texts()
    if size is None:
        symbols = Vocabulary([PADDING, *CHARACTERS])
    else:
        symbols = BPEVocabulary.of(texts[HELD_OUT:], size)
    return symbols, symbols.encode(texts).int()


@cache
def _texts() -> tuple[str, ...]:
    """All sentences in the order of their hashes, the held-out ones first."""
    lines = lzma.decompress(PATH.read_bytes()).decode("ascii").splitlines()
    return tuple(sorted(lines, key=_hash))


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).digest()
