"""Molecules by RDKit, which is an extra: alignflow[molecules]."""

from collections.abc import Sequence
from typing import Any

__all__ = ["canonical", "molecule", "rdkit"]


def molecule(smiles: str) -> Any:
    """A molecule of RDKit; None if the text is empty, or no SMILES of a molecule."""
    package = rdkit()
    with package.rdBase.BlockLogs():  # which would print each mistake
        return package.Chem.MolFromSmiles(smiles) if smiles else None


def canonical(smiles: Sequence[str]) -> list[str]:
    """Each molecule in the one SMILES that RDKit gives it; "" for a text that is no molecule."""
    write = rdkit().Chem.MolToSmiles
    parsed = {text: molecule(text) for text in set(smiles)}
    written = {text: "" if found is None else write(found) for text, found in parsed.items()}
    return [written[text] for text in smiles]


def rdkit() -> Any:
    """The package.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import rdkit
        import rdkit.Chem
        import rdkit.rdBase
    except ImportError as error:
        raise ImportError("molecules need RDKit: pip install 'alignflow[molecules]'") from error
    return rdkit
