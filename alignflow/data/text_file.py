"""The lines of a text file as a data set."""

from collections import Counter
from os import PathLike
from pathlib import Path
from typing import Any

from alignflow import checks

from .bpe_vocabulary import BPEVocabulary
from .strings import Strings
from .vocabulary import Vocabulary

__all__ = ["text_file"]


def text_file(
    path: str | Path, length: int | None = None, vocabulary: Vocabulary | int | None = None
) -> Strings:
    """The distinct lines of a file in UTF-8, weighted by how often each is there.

    Space around a line is no part of it, and empty lines are passed over.

    Args:
        path: The file.
        length: Tokens L of a string; by default that of the longest line.
        vocabulary: By default padding and the characters found; a number for as many pieces,
            merged from these (needs alignflow[text]).

    Raises:
        ValueError: If there is no such file, it is no text or has no line, or a line does not fit
            the length or the vocabulary.
    """
    lines = Counter(filter(None, map(str.strip, _read(path).splitlines())))
    if not lines:
        raise ValueError(f"the file {path} has no line of text")
    if isinstance(vocabulary, int):
        vocabulary = BPEVocabulary.of(lines, vocabulary)
    return Strings.of(list(lines), list(lines.values()), vocabulary, length)


def _read(path: Any) -> str:
    if not isinstance(path, str | PathLike):
        raise ValueError(f"path must be that of a file, got {checks.shown(path)}")
    try:
        return Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a text in UTF-8: {error}") from error
