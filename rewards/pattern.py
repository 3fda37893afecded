r"""Pattern: whether a regular expression is found in a text.

.. math:: r(x) = 1[\mathrm{pattern\ occurs\ in\ } x]
"""

import re
from collections.abc import Sequence
from functools import partial

from alignflow.reward_module import Reward

from .texts import check_texts, some_text

__all__ = ["Pattern", "is_found"]


def is_found(texts: Sequence[str], pattern: re.Pattern[str]) -> list[float]:
    """1 for those of N texts in which the pattern is found, 0 for the others."""
    check_texts(texts)
    return [float(pattern.search(text) is not None) for text in texts]


class Pattern(Reward):
    """Whether a regular expression is found in a text, 0 or 1; a black box.

    Args:
        pattern: As Python's `re` reads it; "^...$" for the whole text.
        name: What errors and reports call it.

    Raises:
        ValueError: If it is no regular expression.
    """

    def __init__(self, pattern: str, name: str = "pattern"):
        try:
            compiled = re.compile(some_text("pattern", pattern))
        except re.error as error:
            raise ValueError(
                f"pattern must be a regular expression, got {pattern!r}: {error}"
            ) from error
        super().__init__(partial(is_found, pattern=compiled), name)
