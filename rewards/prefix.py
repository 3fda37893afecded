r"""Prefix: whether a text starts with a given one.

.. math:: r(x) = 1[x_{1..|y|} = y]
"""

from collections.abc import Sequence
from functools import partial

from alignflow.reward_module import Reward

from .texts import check_texts, some_text

__all__ = ["Prefix", "starts_with"]


def starts_with(texts: Sequence[str], prefix: str) -> list[float]:
    """1 for those of N texts that start with the prefix, 0 for the others."""
    check_texts(texts)
    return [float(text.startswith(prefix)) for text in texts]


class Prefix(Reward):
    """Whether a text starts with a given one, 0 or 1; a black box.

    Args:
        prefix: The start; upper and lower case differ.
        name: What errors and reports call it; prefix_<prefix> by default.
    """

    def __init__(self, prefix: str, name: str | None = None):
        prefix = some_text("prefix", prefix)
        super().__init__(partial(starts_with, prefix=prefix), name or f"prefix_{prefix}")
