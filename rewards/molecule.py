"""Rewards of molecules that are given as SMILES, by RDKit."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from alignflow import checks
from alignflow.chemistry import molecule, rdkit
from alignflow.reward_module import Reward

from .texts import check_texts

__all__ = ["MoleculeReward", "property_of"]


def property_of(smiles: Sequence[str], function: Callable[[Any], float]) -> list[float]:
    """A property of N molecules; NaN for a text that is no molecule, the empty one among them.

    Args:
        smiles: N texts.
        function: Of a molecule of RDKit.
    """
    check_texts(smiles)
    molecules = {text: molecule(text) for text in set(smiles)}  # a batch often repeats some
    values = {
        text: math.nan if found is None else float(function(found))
        for text, found in molecules.items()
    }
    return [values[text] for text in smiles]


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
