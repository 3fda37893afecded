"""Fragments: the building blocks of drug-like molecules.

BRICS fragments of 12,000 molecules of MOSES, of 4 to 12 heavy atoms, with hydrogen where they were
cut, weighted by count: once for each molecule and way to cut it out. The list is finite and its
weights are known, so the rate of every property under every tilt is known exactly.

Source: Degen et al. 2008, "On the art of compiling and using 'drug-like' chemical fragment spaces",
as RDKit has it; Polykovskiy et al. 2020, "Molecular sets (MOSES)".
"""

from pathlib import Path

import numpy as np
import torch

from .selfies_vocabulary import SelfiesVocabulary
from .strings import Strings
from .vocabulary import PADDING

__all__ = ["fragments"]

LENGTH = 24

SYMBOLS = (
    *(PADDING, "[#Branch1]", "[#Branch2]", "[#C]", "[#N]", "[=Branch1]", "[=Branch2]", "[=C]"),
    *("[=N]", "[=O]", "[=Ring1]", "[=SH1]", "[=S]", "[Br]", "[Branch1]", "[Branch2]", "[C]"),
    *("[Cl]", "[F]", "[NH1]", "[N]", "[O]", "[Ring1]", "[Ring2]", "[SH1]", "[S]"),
)


def fragments() -> Strings:
    """2,020 molecules of up to 24 symbols, L = 24, V = 26, entropy 5.23 nats, all distinct.

    Needs alignflow[molecules] to write them as SMILES.
    """
    with np.load(Path(__file__).parent / "shipped" / "fragments.npz") as stored:
        tokens, counts = torch.from_numpy(stored["tokens"]), stored["counts"]
    return Strings(tokens.long(), SelfiesVocabulary(SYMBOLS), counts)
