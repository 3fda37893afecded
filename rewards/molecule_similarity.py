r"""Similarity of a molecule to a given one y.

.. math:: r(x) = \frac{|f(x) \cap f(y)|}{|f(x) \cup f(y)|} \in [0, 1]

f are the atoms' surroundings of up to two bonds, hashed to 2048 bits.

Source: Rogers and Hahn 2010, "Extended-connectivity fingerprints" (ECFP4), as RDKit has them.
"""

from functools import cache, partial
from typing import Any

from alignflow.chemistry import molecule, rdkit

from .molecule import MoleculeReward
from .texts import some_text

__all__ = ["MoleculeSimilarity", "tanimoto"]


def tanimoto(molecule: Any, fingerprint: Any) -> float:
    """Similarity of a molecule of RDKit to the fingerprint of another."""
    from rdkit import DataStructs

    return DataStructs.TanimotoSimilarity(_generator().GetFingerprint(molecule), fingerprint)


class MoleculeSimilarity(MoleculeReward):
    """Tanimoto similarity to a given molecule, in [0, 1]; a black box.

    Args:
        smiles: The molecule.
        name: What errors and reports call it.
        on_invalid: What a text that is no molecule does: "raise", "drop" or "worst".

    Raises:
        ValueError: If it is no molecule.
    """

    def __init__(self, smiles: str, name: str = "molecule_similarity", on_invalid: str = "raise"):
        rdkit()
        other = molecule(some_text("smiles", smiles))
        if other is None:
            raise ValueError(f"smiles must be a molecule in SMILES, got {smiles!r}")
        fingerprint = _generator().GetFingerprint(other)
        super().__init__(partial(tanimoto, fingerprint=fingerprint), name, on_invalid)


@cache
def _generator() -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
