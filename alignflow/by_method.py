"""Calls that take a method by its name, and tell which there are."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Generic, ParamSpec, TypeVar

__all__ = ["ByMethod", "by_method"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Name = TypeVar("Name", bound=str)


class ByMethod(Generic[Arguments, Result, Name]):
    """A function with `methods()`: the names that it takes, in a way that a type checker follows.

    Args:
        function: What a call does; its signature and docstring are those of the call.
        methods: Gives each name, with one line about it.
    """

    def __init__(
        self,
        function: Callable[Arguments, Result],
        methods: Callable[[], dict[Name, str]],
    ):
        update_wrapper(self, function)
        self._function, self._methods = function, methods

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return self._function(*args, **kwargs)

    def methods(self) -> dict[Name, str]:
        """Every method by name, with one line about it."""
        return self._methods()

    def __reduce__(self) -> str:
        # by name, as a function is pickled
        return self._function.__qualname__

    def __repr__(self) -> str:
        return f"<function {self._function.__qualname__}, by method: {', '.join(self.methods())}>"


def by_method(
    methods: Callable[[], dict[Name, str]],
) -> Callable[[Callable[Arguments, Result]], ByMethod[Arguments, Result, Name]]:
    """A decorator that gives a function its `methods()`."""
    return lambda function: ByMethod(function, methods)
