"""Molecules by RDKit, which is an extra: alignflow[molecules]."""

from typing import Any

__all__ = ["molecule", "rdkit"]


def molecule(smiles: str) -> Any:
    """A molecule of RDKit; None if the text is empty, or no SMILES of a molecule."""
    package = rdkit()
    with package.rdBase.BlockLogs():  # which would print each mistake
        return package.Chem.MolFromSmiles(smiles) if smiles else None


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
