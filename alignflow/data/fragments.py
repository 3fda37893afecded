"""Fragments: the building blocks of drug-like molecules.

BRICS fragments of 12,000 molecules of MOSES, of 4 to 12 heavy atoms, with hydrogen where they were
cut, weighted by the number of molecules that have them. The list is finite and its weights are
known, so the rate of every property under every tilt is known exactly.

Source: Degen et al. 2008, "On the art of compiling and using 'drug-like' chemical fragment spaces",
as RDKit has it; Polykovskiy et al. 2020, "Molecular sets (MOSES)".
"""

from .selfies_vocabulary import SelfiesVocabulary
from .strings import Strings
from .weighted_list import weighted_list

__all__ = ["fragments"]


def fragments() -> Strings:
    """Molecules with weights; needs alignflow[molecules]."""
    smiles, weights = weighted_list("fragments.csv")
    return Strings.of(smiles, weights, SelfiesVocabulary.of(smiles))
