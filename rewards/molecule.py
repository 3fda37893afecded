"""Rewards of molecules that are given as SMILES, by RDKit."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from alignflow import checks
from alignflow.reward_module import Reward

from .texts import check_texts

__all__ = ["MoleculeReward", "molecule", "property_of", "rdkit"]


def property_of(smiles: Sequence[str], function: Callable[[Any], float]) -> list[float]:
    """A property of N molecules; NaN for a text that is no molecule, the empty one among them.

    Args:
        smiles: N texts.
        function: Of a molecule of RDKit.
    """
    check_texts(smiles)
    molecules = map(molecule, smiles)
    return [math.nan if found is None else float(function(found)) for found in molecules]


class MoleculeReward(Reward):
    """A property of a molecule; a black box. Needs alignflow[molecules].

    Args:
        function: Of a molecule of RDKit, one number.
        name: What errors and reports call it.
        on_invalid: What a text that is no molecule does: "raise" an error, "drop" to a reward of
            -inf, or take the "worst" reward of the batch.

    Raises:
        ImportError: If RDKit is not installed.
    """

    def __init__(self, function: Callable[[Any], float], name: str, on_invalid: str = "raise"):
        checks.called("function", function, "(molecule) -> number")
        rdkit()
        super().__init__(partial(property_of, function=function), name, on_invalid=on_invalid)


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
        raise ImportError(
            "rewards of molecules need RDKit: pip install 'alignflow[molecules]'"
        ) from error
    return rdkit
