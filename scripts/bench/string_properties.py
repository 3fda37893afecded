"""Properties of strings: ten of the names and fragments with known rates, four of molecules."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from alignflow.chemistry import rdkit
from alignflow.metrics import Estimate, mean, wasserstein
from alignflow.rewards import Pattern
from alignflow.rewards.molecule import property_of
from alignflow.rewards.molecule_properties import logp, qed, synthesizability
from alignflow.rewards.substructure import has_part

__all__ = ["MOLECULE_PROPERTIES", "PAIRS", "PROPERTIES", "HeldOut", "Property"]

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
MOLECULE_PROPERTIES: dict[str, Callable[[Any], float]] = {
    "QED": qed,
    "SA": lambda molecule: -synthesizability(molecule),
    "logP": logp,
    "atoms": lambda molecule: molecule.GetNumHeavyAtoms(),
}
PAIRS = 2  # of sets of held-out molecules, whose distance is the floor


def _has(smarts: str) -> Property:
    """1 for a molecule with a part, and 0 for one without and for what is no molecule."""
    part = rdkit().Chem.MolFromSmarts(smarts)
    call = partial(property_of, function=partial(has_part, part=part))
    return lambda smiles: [float(value == 1) for value in call(smiles)]


PROPERTIES: dict[str, Callable[[], dict[str, Property]]] = {
    "names": lambda: {label: Pattern(pattern) for label, pattern in NAMES.items()},
    "fragments": lambda: {label: _has(smarts) for label, smarts in FRAGMENTS.items()},
}


class HeldOut:
    """Held-out molecules, and how far others are from n of them by each property.

    Args:
        smiles: 2 PAIRS n of them.
        n: Of a set.
    """

    def __init__(self, smiles: Sequence[str], n: int):
        values = {k: _values(smiles, call) for k, call in MOLECULE_PROPERTIES.items()}
        self.values = {label: each[:n] for label, each in values.items()}
        self.floors = {label: _floor(each.split(n)) for label, each in values.items()}

    def distances(self, smiles: Sequence[str]) -> dict[str, tuple[Estimate, float]]:
        """Means of valid molecules, and Wasserstein distances over their floors, by property."""
        found = {}
        for label, call in MOLECULE_PROPERTIES.items():
            values = _values(smiles, call)
            distance = wasserstein(values, self.values[label]).value
            found[label] = mean(values), distance / self.floors[label]
        return found


def _values(smiles: Sequence[str], call: Callable[[Any], float]) -> Tensor:
    return torch.tensor(property_of(smiles, call))


def _floor(sets: Sequence[Tensor]) -> float:
    """The mean distance of independent sets of held-out molecules."""
    pairs = [wasserstein(a, b).value for a, b in zip(sets[::2], sets[1::2], strict=True)]
    return sum(pairs) / len(pairs)
