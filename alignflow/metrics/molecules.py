"""Measures of molecules given as SMILES, by RDKit: alignflow[molecules]."""

from collections import Counter
from collections.abc import Sequence

import torch

from alignflow.chemistry import canonical, molecule

from .estimate import Estimate, jackknife

__all__ = ["canonical", "odd_rings"]

COMMON = (5, 6)  # atoms of a ring of most drugs


def odd_rings(smiles: Sequence[str]) -> Estimate:
    """The fraction of the molecules' rings that have neither 5 nor 6 atoms; 0 without a ring."""
    parsed = {text: molecule(text) for text in set(smiles)}
    counts = {text: _rings(found) for text, found in parsed.items()}
    rings = torch.tensor([counts[text] for text in smiles], dtype=torch.float64).reshape(-1, 2)
    return jackknife(
        lambda rings: (rings[:, 0].sum() / rings[:, 1].sum().clamp(min=1)).item(), rings
    )


def _rings(found) -> tuple[int, int]:
    """Odd rings of a molecule of RDKit, and all of them."""
    sizes = Counter() if found is None else Counter(map(len, found.GetRingInfo().AtomRings()))
    return sizes.total() - sum(sizes[size] for size in COMMON), sizes.total()
