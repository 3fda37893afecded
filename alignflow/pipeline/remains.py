"""What a run leaves unasked: files of writes that were killed, and folders of runs refused.

Only what carries the names that this package writes is ever removed.
"""

import re
import shutil
from pathlib import Path

__all__ = ["absent_parents", "is_bare", "remove_folder", "remove_remains"]

# files that say what a run is, before it has made anything
SAYS = {
    "config.yaml",
    "command.txt",
    "versions.json",
    "targets.json",
    ".lock",
    "depends_on.json",
    "graph.txt",
    "graph.json",
}
WRITTEN = {"tensors.safetensors", "facts.json"}
UNFINISHED = re.compile(r"\.[\w.]+\.new|\.[\w.]+-[a-z0-9_]{8}")


def remove_remains(folder: Path) -> None:
    """Remove what writes that were killed have left under a run folder."""
    for path in sorted(folder.rglob(".*")):
        if not UNFINISHED.fullmatch(path.name) or path.is_symlink():
            continue
        if path.is_dir():
            if {item.name for item in path.iterdir()} <= WRITTEN:
                shutil.rmtree(path)
        elif path.name.endswith(".new"):
            path.unlink()


def is_bare(folder: Path) -> bool:
    """Whether a run folder holds nothing yet that a run has made."""
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    return all(
        path.name in SAYS or (path.name == "metrics.jsonl" and not path.stat().st_size)
        for path in files
    )


def absent_parents(path: Path) -> list[Path]:
    """Folders that making a path would make, the deepest first."""
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def remove_folder(folder: Path, absent: list[Path]) -> None:
    """Empty a bare run folder; it goes with those above it, where they were absent before."""
    shutil.rmtree(folder)
    if folder not in absent:
        folder.mkdir()
    for path in absent:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
