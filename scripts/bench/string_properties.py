"""Ten properties of the names and of the fragments, whose rates under the list are known."""

from collections.abc import Callable, Sequence
from functools import partial

from alignflow.chemistry import rdkit
from alignflow.rewards import Pattern
from alignflow.rewards.molecule import property_of
from alignflow.rewards.substructure import has_part

__all__ = ["PROPERTIES", "Property"]

Property = Callable[[list[str]], Sequence[float]]

NAMES = {
    "ends in son": "son$",
    "ends in s": "s$",
    "ends in ez": "ez$",
    "ends in a vowel": "[aeiouy]$",
    "begins with m": "^m",
    "begins with a vowel": "^[aeiou]",
    "a double letter": r"(.)\1",
    "er": "er",
    "at most 4 letters": "^.{1,4}$",
    "at least 8 letters": "^.{8,}$",
}
FRAGMENTS = {
    "nitrogen": "[#7]",
    "oxygen": "[#8]",
    "sulfur": "[#16]",
    "halogen": "[F,Cl,Br]",
    "benzene": "c1ccccc1",
    "aromatic nitrogen": "[n]",
    "carbonyl": "[CX3]=[OX1]",
    "amide": "[NX3][CX3]=[OX1]",
    "nitrile": "C#N",
    "ring of 5": "[r5]",
}


def _has(smarts: str) -> Property:
    """1 for a molecule with a part, and 0 for one without and for what is no molecule."""
    part = rdkit().Chem.MolFromSmarts(smarts)
    call = partial(property_of, function=partial(has_part, part=part))
    return lambda smiles: [float(value == 1) for value in call(smiles)]


PROPERTIES: dict[str, Callable[[], dict[str, Property]]] = {
    "names": lambda: {label: Pattern(pattern) for label, pattern in NAMES.items()},
    "fragments": lambda: {label: _has(smarts) for label, smarts in FRAGMENTS.items()},
}
