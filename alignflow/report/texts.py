"""Texts as they stand in a page: in columns, with their rewards; molecules drawn."""

from dataclasses import dataclass

from alignflow.results import ShownTexts, TextsResult, TiltResult

from .molecules import Draw, drawer
from .run_folder import REFERENCE

__all__ = ["Cell", "Texts", "text_blocks"]

# columns by the longest text that fits one
COLUMNS = {12: 8, 24: 6, 40: 4, 80: 2}
MOST = 32  # texts shown of a model
MISSING = "Molecules are drawn where RDKit is installed: pip install 'alignflow[molecules]'."


@dataclass(frozen=True)
class Cell:
    """A text with its reward, and its drawing as a data URI if it has one."""

    text: str
    reward: str
    drawing: str | None


@dataclass(frozen=True)
class Texts:
    """Blocks of noises, each a row of cells for each model; what the reference is; a remark."""

    blocks: list[list[tuple[str, list[Cell]]]]
    columns: int
    reference: str
    note: str


def text_blocks(found: TextsResult, tilt: TiltResult | None) -> Texts:
    """Texts of each model, a block for as many noises as there are columns.

    Args:
        found: The texts.
        tilt: Of the run; the reference is this where it is known without an error.
    """
    draw = drawer() if found.kind == "molecules" else None
    longest = max((len(text) for row in found.shown for text in row.texts), default=0)
    columns = next((n for length, n in COLUMNS.items() if longest <= length), 1)
    columns = columns if draw is None else 8
    rows = {row.name: _cells(row, draw) for row in found.shown}
    count = min(map(len, rows.values()), default=0)
    blocks = [
        [(name, cells[start : min(start + columns, count)]) for name, cells in rows.items()]
        for start in range(0, count, columns)
    ]
    note = MISSING if found.kind == "molecules" and draw is None else ""
    reference = tilt.name if tilt and tilt.ess is None else REFERENCE
    return Texts(blocks, columns, reference if REFERENCE in rows else "", note)


def _cells(row: ShownTexts, draw: Draw | None) -> list[Cell]:
    return [
        Cell(text, "" if reward is None else f"{reward:.3g}", draw(text) if draw else None)
        for text, reward in list(zip(row.texts, row.rewards, strict=True))[:MOST]
    ]
