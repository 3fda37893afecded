"""Molecules: MOSES, drug-like molecules of the ZINC collection, as SELFIES symbols.

Source: Polykovskiy et al. 2020, "Molecular sets (MOSES): a benchmarking platform for molecular
generation models"; the data of the package `molsets` (MIT), which is read and not imported.
"""

import gzip
import hashlib
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from alignflow import checks

from .drawing import drawn
from .images import cache_folder
from .selfies_vocabulary import SelfiesVocabulary
from .strings import Strings
from .vocabulary import PADDING

__all__ = ["MOLECULE_SPLITS", "molecules"]

LENGTH = 44  # symbols: 99.1 % of the molecules have at most as many
SYMBOLS = (
    *(PADDING, "[#Branch1]", "[#Branch2]", "[#C]", "[#N]", "[=Branch1]", "[=Branch2]", "[=C]"),
    *("[=N]", "[=O]", "[=Ring1]", "[=Ring2]", "[=S]", "[Br]", "[Branch1]", "[Branch2]", "[C]"),
    *("[Cl]", "[F]", "[H]", "[N]", "[NH1]", "[O]", "[P]", "[Ring1]", "[Ring2]", "[S]"),
)
FILES = {"train": "train.csv.gz", "test": "test.csv.gz", "scaffolds": "test_scaffolds.csv.gz"}
MOLECULE_SPLITS = tuple(FILES)
_DRAWING = 1  # raise it with any change of the tokens, so that a stale cache is never taken


def molecules(split: str = "train", n: int | None = None) -> Strings:
    """The first n molecules of a split in a fixed, mixed order; needs alignflow[molecules].

    Those of more than 44 symbols are left out, 1 of 120.

    Args:
        split: "train" (1,584,663 molecules), "test" (176,074), or "scaffolds" (176,225, of
            scaffolds that the others do not have).
        n: By default all that travel with the library: 120,000, 10,000 and 10,000. More are read
            from the package molsets and written as symbols, 1 ms each, once.

    Returns:
        Strings of L = 44, V = 27, of equal weights.

    Raises:
        ValueError: If there is no such split, or it has fewer molecules.
        ImportError: If the package is needed and not installed.
    """
    split = checks.choice("split", split, FILES)
    with np.load(Path(__file__).parent / "shipped" / "molecules.npz") as stored:
        tokens = torch.from_numpy(stored[split])
    n = len(tokens) if n is None else checks.count("n", n)
    if n > len(tokens):
        count = checks.count("n", n, most=len(moses(split)))
        path = cache_folder() / f"molecules-{_DRAWING}-{split}-{count}.npz"
        (tokens,) = drawn(path, partial(draw, split=split), range(count), ("tokens",))
    tokens = tokens[:n]
    return Strings(tokens[tokens.any(1)], SelfiesVocabulary(SYMBOLS))


def draw(number: int, split: str) -> tuple[np.ndarray]:
    """The tokens (44,), uint8, of a molecule; all padding if it has more symbols."""
    tokens = np.zeros(LENGTH, dtype=np.uint8)
    (row,) = _vocabulary().split([moses(split)[number]])
    if len(row) <= LENGTH:
        tokens[: len(row)] = row
    return (tokens,)


@cache
def moses(split: str) -> list[str]:
    """The SMILES of a split, in the order of their hashes: in the file like stands beside like.

    Raises:
        ImportError: If the package molsets is not installed.
    """
    found = find_spec("moses")
    folders = found.submodule_search_locations if found is not None else None
    path = Path(next(iter(folders or ()), "moses")) / "dataset" / "data" / FILES[split]
    if not path.exists():
        raise ImportError(
            "more molecules than travel with the library are those of the package molsets, of "
            "which only the data is read: pip install --no-deps molsets"
        )
    lines = gzip.decompress(path.read_bytes()).decode("ascii").splitlines()[1:]
    return sorted((line.split(",")[0] for line in lines), key=_hash)


def _hash(smiles: str) -> bytes:
    return hashlib.blake2b(smiles.encode("ascii"), digest_size=8).digest()


@cache
def _vocabulary() -> SelfiesVocabulary:
    return SelfiesVocabulary(SYMBOLS)
