"""Checks of arguments: one small vocabulary, used where a value enters.

Each check takes the argument's name and what came, and returns it in the type that the code behind
it trusts. Every error names the argument, what was wanted and what came. Numbers may be
Python's, NumPy's or scalar tensors; a bool is no number, and neither is a text.
"""

import difflib
import math
import numbers
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

__all__ = [
    "as_generator",
    "as_tensor",
    "called",
    "choice",
    "count",
    "did_you_mean",
    "finite",
    "flag",
    "fraction",
    "instance",
    "nonnegative",
    "offers",
    "positive",
    "refuse_seed",
    "shown",
]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def finite(name: str, value: Any) -> float:
    """A finite number."""
    return _number(name, value, "a finite number", lambda number: True)


def positive(name: str, value: Any) -> float:
    """A finite number above 0."""
    return _number(name, value, "a positive number", lambda number: number > 0)


def nonnegative(name: str, value: Any) -> float:
    """A finite number of at least 0."""
    return _number(name, value, "a finite number of at least 0", lambda number: number >= 0)


def fraction(name: str, value: Any, *, zero: bool = True, one: bool = True) -> float:
    """A number between 0 and 1.

    Args:
        name: Of the argument.
        value: What came.
        zero: Whether 0 itself will do.
        one: Whether 1 itself will do.
    """

    def inside(number: float) -> bool:
        return 0 < number < 1 or (zero and number == 0) or (one and number == 1)

    wanted = f"a fraction in {'[' if zero else '('}0, 1{']' if one else ')'}"
    return _number(name, value, wanted, inside)


def count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number from `least` to `most`; 8.0 is one, 2.5 is none."""
    wanted = f"a whole number of at least {least}"
    if most is not None:
        wanted = f"a whole number from {least} to {most}"

    def inside(number: float) -> bool:
        return number == int(number) and number >= least and (most is None or number <= most)

    return int(_number(name, value, wanted, inside))


def flag(name: str, value: Any) -> bool:
    """True or False, and nothing that Python would take for one of them."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {shown(value)}")
    return value


def choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """One of several names; a typo is answered with the nearest."""
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        hint = did_you_mean(value, known)
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {shown(value)}{hint}")
    return value


def instance(name: str, value: Any, kind: type[Result], wanted: str) -> Result:
    """An object of a type.

    Args:
        name: Of the argument.
        value: What came.
        kind: The type, of which a subclass will do.
        wanted: What it is in words, perhaps with a way to one.
    """
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}")
    return value


def offers(name: str, value: Any, parts: Iterable[str], wanted: str) -> Any:
    """An object, and no class, that has what is used of it, whatever its type.

    Args:
        name: Of the argument.
        value: What came.
        parts: Attributes and methods that are used.
        wanted: What it is in words, perhaps with a way to one.
    """
    lacking = [part for part in parts if not hasattr(value, part)]
    if lacking or isinstance(value, type):
        kind = type(value).__name__
        lack = f": {kind} has no {', '.join(lacking)}" if lacking else ": give an instance of it"
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}{lack}")
    return value


def called(name: str, value: Any, arguments: str) -> Any:
    """A callable.

    Args:
        name: Of the argument.
        value: What came.
        arguments: Its arguments, in words, as `(step, model) -> metrics`.
    """
    if not callable(value):
        raise ValueError(f"{name} must be a callable {arguments}, got {shown(value)}")
    return value


def as_generator(value: Any, name: str = "generator") -> torch.Generator | None:
    """A source of randomness: a torch.Generator as it is, or one seeded by a whole number."""
    if value is None or isinstance(value, torch.Generator):
        return value
    try:
        return torch.Generator().manual_seed(count(name, value, least=0))
    except (ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(
            f"{name} must be a torch.Generator or a seed, a whole number of at least 0, "
            f"got {shown(value)}"
        ) from error


def as_tensor(name: str, value: Any) -> torch.Tensor:
    """A tensor as it is, or one of an array or of lists of numbers."""
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name} must be a tensor, or an array or list of numbers, got {shown(value)}"
        ) from error


def refuse_seed(call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A decorator: `seed=` is refused with the argument to use instead, `generator=`."""

    @wraps(call)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if "seed" in kwargs:
            raise ValueError(
                f"{call.__name__} takes no seed: say generator={shown(kwargs['seed'])} "
                "(a whole number, or a torch.Generator)"
            )
        return call(*args, **kwargs)

    return checked


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """What to add to an error about an unknown word: the nearest known one, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1) if isinstance(word, str) else []
    return f"; did you mean {near[0]!r}?" if near else ""


def shown(value: Any) -> str:
    """A value as an error shows it: in full if it is short, else by its type and shape."""
    shape = getattr(value, "shape", None)
    if shape is not None and tuple(shape) != ():
        return f"{type(value).__name__} of shape {tuple(shape)}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _number(name: str, value: Any, wanted: str, inside: Callable[[Any], bool]) -> Any:
    number = _as_number(value)
    try:
        fits = number is not None and math.isfinite(number) and inside(number)
    except OverflowError:  # a whole number beyond all floats
        fits = False
    if not fits:
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}")
    return number


def _as_number(value: Any) -> Any:
    """The number that a value is; None if it is none."""
    if isinstance(value, torch.Tensor) or hasattr(value, "dtype"):
        if getattr(value, "ndim", None) != 0:
            return None
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    return value if isinstance(value, int) else float(value)
