"""Molecules as they stand in a page: drawn in the plane by RDKit, SVG in a data URI."""

import base64
from collections.abc import Callable

__all__ = ["Draw", "drawer"]

SIZE = 160, 120  # px

Draw = Callable[[str], str | None]
"""From SMILES to a data URI; None for what is no molecule."""


def drawer() -> Draw | None:
    """What draws molecules; None where RDKit is not installed."""
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem.Draw import rdMolDraw2D
    except ImportError:
        return None

    def draw(smiles: str) -> str | None:
        with rdBase.BlockLogs():  # which would print each mistake
            molecule = Chem.MolFromSmiles(smiles) if smiles else None
        if molecule is None:
            return None
        page = rdMolDraw2D.MolDraw2DSVG(*SIZE)
        page.drawOptions().clearBackground = False
        rdMolDraw2D.PrepareAndDrawMolecule(page, molecule)
        page.FinishDrawing()
        return (
            "data:image/svg+xml;base64," + base64.b64encode(page.GetDrawingText().encode()).decode()
        )

    return draw
