"""Molecules as they stand in a page: drawn in the plane by RDKit, SVG in a data URI."""

import base64
from collections.abc import Callable

from alignflow.chemistry import molecule, rdkit

__all__ = ["Draw", "drawer"]

SIZE = 160, 120  # px

Draw = Callable[[str], str | None]
"""From SMILES to a data URI; None for what is no molecule."""


def drawer() -> Draw | None:
    """What draws molecules; None where RDKit is not installed."""
    try:
        rdkit()
    except ImportError:
        return None
    from rdkit.Chem.Draw import rdMolDraw2D

    def draw(smiles: str) -> str | None:
        found = molecule(smiles)
        if found is None:
            return None
        page = rdMolDraw2D.MolDraw2DSVG(*SIZE)
        page.drawOptions().clearBackground = False
        rdMolDraw2D.PrepareAndDrawMolecule(page, found)
        page.FinishDrawing()
        encoded = base64.b64encode(page.GetDrawingText().encode()).decode()
        return f"data:image/svg+xml;base64,{encoded}"

    return draw
