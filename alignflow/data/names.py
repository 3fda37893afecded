"""Names: the 1,000 most frequent American family names, in small letters, weighted by frequency.

They are those of 55 % of the people (1990 census). The list is finite and its weights are known, so
the rate of every property under every tilt is known exactly.
"""

from .strings import Strings
from .vocabulary import PADDING, Vocabulary
from .weighted_list import weighted_list

__all__ = ["names"]

LENGTH = 12
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def names() -> Strings:
    """1,000 names of 2 to 11 letters, L = 12, V = 27, entropy 6.35 nats, all distinct."""
    strings, weights = weighted_list("names.csv")
    return Strings.of(strings, weights, Vocabulary([PADDING, *LETTERS]), LENGTH)
