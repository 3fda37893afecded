r"""Substructure: whether a molecule has a given part.

.. math:: r(x) = 1[\mathrm{part} \subseteq x]
"""

from functools import partial
from typing import Any

from alignflow.chemistry import rdkit

from .molecule import MoleculeReward
from .texts import some_text

__all__ = ["Substructure", "has_part"]


def has_part(molecule: Any, part: Any) -> float:
    """1 if a molecule of RDKit has a part, a query of RDKit, and 0 if not."""
    return float(molecule.HasSubstructMatch(part))


class Substructure(MoleculeReward):
    """Whether a molecule has a given part, 0 or 1; a black box.

    Args:
        smarts: The part, in SMARTS: "[#7]" is any nitrogen, "c1ccccc1" a benzene ring.
        name: What errors and reports call it.
        on_invalid: What a text that is no molecule does: "raise", "drop" or "worst".

    Raises:
        ValueError: If it is no SMARTS.
    """

    def __init__(self, smarts: str, name: str = "substructure", on_invalid: str = "raise"):
        package = rdkit()
        with package.rdBase.BlockLogs():
            part = package.Chem.MolFromSmarts(some_text("smarts", smarts))
        if part is None or not part.GetNumAtoms():
            raise ValueError(f"smarts must be a part of a molecule in SMARTS, got {smarts!r}")
        super().__init__(partial(has_part, part=part), name, on_invalid)
