"""Nested state, such as an optimizer's, as tensors by name and facts that JSON can hold."""

import math
from typing import Any

from torch import Tensor

__all__ = ["pack", "unpack"]


def pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A value of dicts, lists, tuples, numbers, texts and tensors, encoded for JSON.

    Args:
        value: What to pack. Of anything else, such as a function, only the place is stored.
        name: Of the value; the tensors within are named by the path to them.
        tensors: To which the tensors are added.
    """
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        entries = ([key, pack(item, f"{name}.{key}", tensors)] for key, item in value.items())
        return {"dict": list(entries)}
    if isinstance(value, list | tuple):
        items = [pack(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
        return {type(value).__name__: items} if type(value) in (list, tuple) else {"other": None}
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return {"other": None}


def unpack(packed: Any, tensors: dict[str, Tensor], current: Any = None) -> Any:
    """The inverse of `pack`.

    Args:
        packed: The facts.
        tensors: By name.
        current: The same value as it is now, for what was not stored.
    """
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "float":
        return float(content)
    if kind == "dict":
        now = current if isinstance(current, dict) else {}
        return {key: unpack(item, tensors, now.get(key)) for key, item in content}
    if kind in ("list", "tuple"):
        now = current if isinstance(current, list | tuple) else []
        now = [*now, *[None] * len(content)]
        items = [unpack(item, tensors, old) for item, old in zip(content, now, strict=False)]
        return items if kind == "list" else tuple(items)
    if kind == "other":
        return current
    raise ValueError(f"{kind!r} is no kind of value")
