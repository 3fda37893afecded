"""Properties of molecules: likeness to drugs, ease of synthesis, and solubility in fat.

Source: Bickerton et al. 2012 (QED), Ertl and Schuffenhauer 2009 (synthetic accessibility), Wildman
and Crippen 1999 (logP); all as RDKit computes them.
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from .molecule import MoleculeReward

__all__ = ["QED", "LogP", "Synthesizability", "logp", "qed", "synthesizability"]


class QED(MoleculeReward):
    """Quantitative estimate of drug-likeness, in [0, 1]; a black box of 0.6 ms a molecule.

    Args:
        on_invalid: What a text that is no molecule does: "raise", "drop" or "worst".
    """

    def __init__(self, on_invalid: str = "raise"):
        super().__init__(qed, "qed", on_invalid)


class LogP(MoleculeReward):
    """Log10 of how a molecule parts between octanol and water; a black box of 0.2 ms a molecule.

    Args:
        on_invalid: What a text that is no molecule does: "raise", "drop" or "worst".
    """

    def __init__(self, on_invalid: str = "raise"):
        super().__init__(logp, "logp", on_invalid)


class Synthesizability(MoleculeReward):
    """Minus the synthetic accessibility score, in [-10, -1]; a black box of 0.5 ms a molecule.

    The score is 1 for what is easy to make and 10 for what is hard.

    Args:
        on_invalid: What a text that is no molecule does: "raise", "drop" or "worst".
    """

    def __init__(self, on_invalid: str = "raise"):
        super().__init__(synthesizability, "synthesizability", on_invalid)


def qed(molecule: Any) -> float:
    """QED of a molecule of RDKit."""
    from rdkit.Chem import QED

    return QED.qed(molecule)


def logp(molecule: Any) -> float:
    """Crippen's logP of a molecule of RDKit."""
    from rdkit.Chem import Crippen

    return Crippen.MolLogP(molecule)  # pyright: ignore[reportAttributeAccessIssue]


def synthesizability(molecule: Any) -> float:
    """Minus the SA score of a molecule of RDKit."""
    return -_scorer().calculateScore(molecule)


@cache
def _scorer() -> Any:
    """The program that RDKit ships beside its package."""
    from rdkit.Chem import RDConfig

    path = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    found = importlib.util.spec_from_file_location("sascorer", path)
    if not path.exists() or found is None or found.loader is None:
        raise ImportError(f"this RDKit ships no {path}: install its wheel, pip install rdkit")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
