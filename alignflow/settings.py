"""Settings: the options of a method, as the fields of a frozen dataclass.

    @dataclass(frozen=True, kw_only=True)
    class FMTT(Settings):
        particles: int = option(8, "M, of each system", checks.count)

A field states its type, its default, what it means and how a value is checked, once. Strings,
configs, `alignflow list` and the documentation are made of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, NamedTuple, TypeVar, get_type_hints

from alignflow import checks

__all__ = ["Check", "Option", "Settings", "from_options", "option", "optional", "options"]

Check = Callable[[str, Any], Any]
"""A callable `(name, value) -> value`, as in `alignflow.checks`, that raises ValueError."""

Kind = TypeVar("Kind")


class Option(NamedTuple):
    """One option of a method.

    Args:
        type: Of its values.
        default: Its value if none is given; MISSING for an option that must be given.
        meaning: In words, with its unit.
    """

    type: Any
    default: Any
    meaning: str


def option(default: Any, meaning: str, check: Check | None = None) -> Any:
    """A field of a settings dataclass.

    Args:
        default: Its value if none is given; MISSING for an option that must be given.
        meaning: In words, with its unit.
        check: Called with the option's name and value; it returns the value in the field's type.
    """
    return field(default=default, metadata={"meaning": meaning, "check": check})


def optional(check: Check) -> Check:
    """The same check of a value that may also be None."""
    return lambda name, value: None if value is None else check(name, value)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base class of settings: the values of all options are checked, once, when it is made."""

    def __post_init__(self):
        for each in fields(self):
            check = each.metadata.get("check")
            if check is not None:
                # the class is frozen for everybody else
                object.__setattr__(self, each.name, check(each.name, getattr(self, each.name)))


def options(settings: type) -> dict[str, Option]:
    """The options of a settings dataclass by name, in the order of its fields."""
    types = get_type_hints(settings)
    return {
        each.name: Option(types[each.name], _default(each), each.metadata.get("meaning", ""))
        for each in fields(settings)
        if each.init
    }


def from_options(settings: type[Kind], given: Mapping[str, Any], name: str) -> Kind:
    """Settings from a mapping of options, such as keyword arguments or a node of a config.

    Args:
        settings: A settings dataclass.
        given: Values by name; options that are absent take their defaults.
        name: What has these options, for the error.

    Raises:
        ValueError: If an option is unknown, with the known ones, or a value is refused.
    """
    known = options(settings)
    if unknown := sorted(set(given) - set(known)):
        offered = ", ".join(known) or "no options"
        hint = checks.did_you_mean(unknown[0], known)
        raise ValueError(f"{name} does not take {', '.join(unknown)}; it takes {offered}{hint}")
    return settings(**given)


def _default(each: Any) -> Any:
    return each.default if each.default_factory is MISSING else each.default_factory()
