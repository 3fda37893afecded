r"""Letters: which part of a text is of given characters.

.. math:: r(x) = \frac{1}{|x|} \sum_i 1[x_i \in \mathrm{letters}] \in [0, 1]
"""

from collections.abc import Sequence
from functools import partial

from alignflow.reward_module import Reward

from .texts import check_texts, some_text

__all__ = ["Letters", "letter_fraction"]


def letter_fraction(texts: Sequence[str], letters: str) -> list[float]:
    """Fraction of the characters of N texts that are among the letters; 0 of an empty one."""
    check_texts(texts)
    return [sum(map(text.count, set(letters))) / max(1, len(text)) for text in texts]


class Letters(Reward):
    """The fraction of characters that are among given ones, in [0, 1]; a black box.

    Args:
        letters: The characters, such as "aeiou"; upper and lower case differ.
        name: What errors and reports call it.
    """

    def __init__(self, letters: str, name: str = "letters"):
        super().__init__(partial(letter_fraction, letters=some_text("letters", letters)), name)
