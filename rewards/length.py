r"""Length: how many characters a text has.

.. math:: r(x) = |x|

Its opposite, shortness, is this with a weight of -1 in a `Sum`.
"""

from collections.abc import Sequence

from alignflow.reward_module import Reward

from .texts import check_texts

__all__ = ["Length", "length"]


def length(texts: Sequence[str]) -> list[float]:
    """Characters of N texts."""
    check_texts(texts)
    return [float(len(text)) for text in texts]


class Length(Reward):
    """The number of characters; a black box."""

    def __init__(self):
        super().__init__(length)
