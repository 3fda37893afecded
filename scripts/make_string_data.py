"""Write the strings that travel with the library: names, fragments and molecules.

Needs alignflow[molecules] and two sources, which are read and not imported:
`pip download --no-deps names==0.3.0 molsets==0.3.1`.
"""

import argparse
import csv
import io
import re
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from alignflow.data import SelfiesVocabulary
from alignflow.data.fragments import LENGTH, SYMBOLS
from alignflow.data.molecules import draw, moses

SHIPPED = Path(__file__).parents[1] / "alignflow" / "data" / "shipped"
NAMES = 1_000
MOLECULES = 12_000  # whose fragments are counted
ATOMS = range(4, 13)  # heavy ones of a fragment
SHIPPED_MOLECULES = {"train": 220_000, "test": 10_000, "scaffolds": 10_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", type=Path, help="names-0.3.0.tar.gz")
    parser.add_argument("molsets", type=Path, help="molsets-0.3.1-py3-none-any.whl")
    sources = parser.parse_args()
    _write("names.csv", _names(sources.names))
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(sources.molsets) as wheel:
            wheel.extractall(folder)
        sys.path.insert(0, folder)
        smiles, counts = zip(*_fragments(moses("train")[:MOLECULES]), strict=True)
        arrays = {split: _tokens(split, n) for split, n in SHIPPED_MOLECULES.items()}
    tokens = SelfiesVocabulary(SYMBOLS).encode(smiles, LENGTH).numpy()
    stored = {"tokens": tokens.astype(np.uint8), "counts": np.array(counts, np.int32)}
    np.savez_compressed(SHIPPED / "fragments.npz", allow_pickle=False, **stored)
    np.savez_compressed(SHIPPED / "molecules.npz", allow_pickle=False, **arrays)


def _names(archive: Path) -> list[tuple[str, str]]:
    """The most frequent family names, in small letters, and their percentage of the people."""
    with tarfile.open(archive) as opened:
        (member,) = [m for m in opened.getmembers() if m.name.endswith("/names/dist.all.last")]
        file = opened.extractfile(member)
        assert file is not None
        lines = file.read().decode("ascii").splitlines()
    rows = [line.split() for line in lines[:NAMES]]
    return [(name.lower(), percentage) for name, percentage, *_ in rows]


def _tokens(split: str, n: int) -> np.ndarray:
    return np.stack([draw(number, split)[0] for number in range(n)])


def _fragments(molecules: list[str]) -> list[tuple[str, int]]:
    """Building blocks of molecules as canonical SMILES, and their counts."""
    from rdkit import Chem
    from rdkit.Chem import BRICS

    counts = Counter()
    for smiles in molecules:
        counts.update(BRICS.BRICSDecompose(Chem.MolFromSmiles(smiles)))
    capped = Counter()
    for fragment, count in counts.items():
        hydrogen = Chem.MolFromSmiles(re.sub(r"\[\d+\*\]", "[H]", fragment))
        if hydrogen.GetNumHeavyAtoms() in ATOMS:
            capped[Chem.MolToSmiles(hydrogen)] += count
    return sorted(capped.items(), key=lambda item: (-item[1], item[0]))


def _write(name: str, rows: list) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    (SHIPPED / name).write_text(text.getvalue())


if __name__ == "__main__":
    main()
