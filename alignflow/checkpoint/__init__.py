"""Folders of tensors and facts on disk: safetensors beside JSON, whole or refused.

The two files are hashed together, so a truncated or altered one is refused. Each is written under
another name and renamed. A save counts once the facts, which name the hash of their tensors, are
renamed: a kill at any moment leaves the old folder or the new one, and at most hidden files that
the next save removes. Reading writes nothing. Nothing is pickled, and nothing read from a folder is
ever executed.

facts.json                      the facts, the hash of the tensors, and the hash of both
tensors.safetensors             the tensors
.<hash>.tensors.safetensors     the tensors, for a moment between the renames of a save
.<hash>.<name>.part             what a save is writing
"""

from .digest import digest
from .format import CheckpointError, as_folder
from .networks import (
    NETWORKS,
    build_without_memory,
    load_frozen,
    load_parameters,
    registered_name,
    registered_network,
)
from .reading import fact, is_saved, load_folder
from .writing import save_folder

__all__ = [
    "NETWORKS",
    "CheckpointError",
    "as_folder",
    "build_without_memory",
    "digest",
    "fact",
    "is_saved",
    "load_folder",
    "load_frozen",
    "load_parameters",
    "registered_name",
    "registered_network",
    "save_folder",
]
