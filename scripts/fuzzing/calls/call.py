"""A valid call, and how each of its arguments is broken."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..values import Bad

__all__ = ["Call", "valid"]


@dataclass(frozen=True)
class Call:
    """A valid call and how to break it.

    Args:
        function: What is called.
        given: Valid arguments by name.
        bad: Bad values by name of the argument.
        positional: Names of the first arguments, where they cannot be given by name.
        then: What is called on the result, where the arguments only then take effect.
        unknown: Names of arguments that it does have, of which typos are none.
    """

    function: str
    given: Mapping[str, str]
    bad: Mapping[str, Bad]
    positional: tuple[str, ...] = ()
    then: str = ""
    unknown: tuple[str, ...] = field(default=())

    def source(self, changed: Mapping[str, str] | None = None) -> str:
        """The call as Python, with some arguments changed or added."""
        arguments = {**self.given, **(changed or {})}
        first = [arguments.pop(name) for name in self.positional]
        rest = [f"{name}={value}" for name, value in arguments.items()]
        return f"{self.function}({', '.join([*first, *rest])}){self.then}"


def valid(function: str, given: dict[str, str] | None = None, /, **rest) -> Call:
    """A call whose bad arguments are given by name, `then`, `positional` and `unknown` apart."""
    of_call = {key: rest.pop(key) for key in ("then", "positional", "unknown") if key in rest}
    return Call(function, given or {}, rest, **of_call)
