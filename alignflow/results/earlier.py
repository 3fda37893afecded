"""Results of earlier versions, in the words of this one."""

from collections.abc import Iterator
from typing import Any

from alignflow.metrics.names import current

__all__ = ["upgrade"]


def upgrade(result: dict[str, Any]) -> None:
    """Bring a result from before versions were recorded to version 1, in place."""
    for distances in (
        *_found(result, "models", "*", "distance_to_base"),
        *_found(result, "reference", "distances", "*"),
        *_found(result, "reference", "weighed", "*", "distances"),
    ):
        for name in list(distances):
            _rename(distances, name, current(name))
    for histogram in _found(result, "reference", "histograms", "*"):
        _rename(histogram, "shares", "fractions")
    for weighed in _found(result, "reference", "weighed", "*"):
        _rename(weighed, "ess", "ess_fraction")


def _found(node: Any, *path: str) -> Iterator[dict[str, Any]]:
    """Objects at a path of keys, `*` for every entry; whatever is not there is passed over."""
    if not path:
        yield from [node] if isinstance(node, dict) else []
        return
    key, *rest = path
    entries = node if isinstance(node, list) else []
    if isinstance(node, dict):
        entries = node.values() if key == "*" else [node.get(key)]
    for entry in entries:
        yield from _found(entry, *rest)


def _rename(entry: dict[str, Any], old: str, new: str) -> None:
    if old in entry:
        entry[new] = entry.pop(old)
