"""JSON to results and back; what is damaged is named by its file and key."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from alignflow.metrics import Estimate, Interval

from .earlier import upgrade
from .schema import VERSION

__all__ = ["ReportError", "convert", "encode", "read", "read_json", "read_json_lines"]

SHOWN = 60  # characters of a value that an error shows

T = TypeVar("T")


class ReportError(ValueError):
    """A run folder lacks what a report is made of, or holds something else there."""


def encode(result: msgspec.Struct) -> str:
    """A result as the text of its file."""
    return msgspec.json.format(msgspec.json.encode(result), indent=2).decode() + "\n"


def read(file: Path, kind: type[T]) -> T:
    """A result from its file, of this version or an earlier one.

    Raises:
        ReportError: If it is missing, damaged, or of a later version; it names the file and key.
    """
    value = read_json(file)
    version = value.get("version", 0) if isinstance(value, dict) else 0
    if isinstance(version, int) and version > VERSION:
        raise ReportError(
            f"{file} is of version {version}, and this alignflow reads {VERSION} at most: update it"
        )
    if isinstance(value, dict) and not version:
        upgrade(value)
    return convert(value, kind, file)


def read_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ReportError: If it is missing or is not JSON.
    """
    try:
        return json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ReportError(f"{file} is missing") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{file} is not JSON: {error}") from error


def read_json_lines(file: Path) -> Iterator[tuple[str, Any]]:
    """Names and values of JSON lines; half a last line, as a kill leaves it, is passed over."""
    lines = file.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            yield f"line {number}", json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ReportError(f"{file}: line {number} is not JSON: {error}") from error


def convert(value: Any, kind: type[T], file: Path, key: str = "") -> T:
    """A JSON value as a kind of result.

    Raises:
        ReportError: Naming the file, the key, what it must be and what it is.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ReportError(_complaint(value, kind, file, key)) from error


def _complaint(value: Any, kind: Any, file: Path, key: str) -> str:
    """What is wrong, at the innermost key that does not hold what it should."""
    for inner_key, inner, inner_kind in _parts(value, _plain(kind), key):
        try:
            msgspec.convert(inner, inner_kind)
        except msgspec.ValidationError:
            return _complaint(inner, inner_kind, file, inner_key)
    if isinstance(value, dict) and (missing := _missing(value, _plain(kind))):
        return f"{file} has no {_joined(key, missing)!r}"
    shown = repr(value)
    shown = shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + "..."
    return f"{file}: {key or 'the file'} must be {_wanted(value, kind)}, got {shown}"


def _parts(value: Any, kind: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Key, value and kind of each part of a value."""
    origin, arguments = get_origin(kind), get_args(kind)
    if _is_struct(kind):
        hints = get_type_hints(kind, include_extras=True)
        kinds = [hints[field] for field in kind.__struct_fields__]
        if _is_list(kind) and isinstance(value, list):
            parts = zip(value, kinds, strict=False)
            yield from ((f"{key}[{i}]", *part) for i, part in enumerate(parts))
        elif not _is_list(kind) and isinstance(value, dict):
            for field, of in zip(kind.__struct_fields__, kinds, strict=True):
                if field in value:
                    yield _joined(key, field), value[field], of
    elif origin is list and isinstance(value, list):
        yield from ((f"{key}[{i}]", item, arguments[0]) for i, item in enumerate(value))
    elif origin is dict and isinstance(value, dict):
        yield from ((_joined(key, name), item, arguments[1]) for name, item in value.items())


def _wanted(value: Any, kind: Any) -> str:
    kind, plain = _present(kind), _plain(kind)
    if _is_list(plain) and not isinstance(value, list):
        return "a list"
    if get_origin(kind) is Annotated:
        return next(meta.description for meta in kind.__metadata__ if meta.description)
    if get_origin(plain) is Literal:
        return f"one of {', '.join(get_args(plain))}"
    return {
        Estimate: "[value, standard error]",
        Interval: "[value, low, high] with low <= value <= high",
        int: "a whole number",
        str: "a text",
    }.get(plain, "an object")


def _plain(kind: Any) -> Any:
    """A kind without None and without its constraints."""
    kind = _present(kind)
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _present(kind: Any) -> Any:
    """What a kind is where it is not None."""
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
    return kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is list or (_is_struct(kind) and kind.__struct_config__.array_like)


def _missing(value: dict[str, Any], kind: Any) -> str | None:
    """The first field without a default that an object lacks."""
    fields = msgspec.structs.fields(kind) if _is_struct(kind) else ()
    return next((f.name for f in fields if f.required and f.name not in value), None)


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
