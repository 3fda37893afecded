"""Write short sentences to a text file: the glosses and examples of WordNet, a line each.

    apt install wordnet-base
    python scripts/make_sentences.py --output sentences.txt

WordNet 3.0 copyright 2006 by Princeton University; its license lets it be used and copied with this
notice. Nothing of it travels with the library.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

PARTS = ("noun", "verb", "adj", "adv")
LONGEST = 64  # characters
PLAIN = re.compile(r"[a-z][a-z ,.;'-]*")


def sentences(folder: Path) -> Iterator[str]:
    """Glosses and examples in small letters, as they come."""
    for part in PARTS:
        for line in (folder / f"data.{part}").read_text("latin1").splitlines():
            if line.startswith("  "):  # of the license
                continue
            gloss = line.split(" | ", 1)[1].strip()
            for text in re.split(r';\s*(?=")', gloss):
                yield text.strip(' ";').lower()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--output", type=Path, default=Path("sentences.txt"))
    options = parser.parse_args()
    kept = [s for s in sentences(options.folder) if len(s) <= LONGEST and PLAIN.fullmatch(s)]
    options.output.write_text("\n".join(kept) + "\n", encoding="utf-8")
    print(f"{len(kept):,} sentences, {len(set(kept)):,} different: {options.output}")


if __name__ == "__main__":
    main()
