"""Calls that train: they build a training and run it."""

from collections.abc import Callable
from functools import update_wrapper, wraps
from inspect import Signature, signature
from typing import Generic, ParamSpec, Protocol, TypeVar

from alignflow.progress import watched

__all__ = ["Trains", "Training"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Trained = TypeVar("Trained", covariant=True)


class Training(Protocol[Trained]):
    """A training that has not run, such as a `Trainer`."""

    def run(self) -> Trained:
        """Train, and return what was trained."""
        ...


class Trains(Generic[Arguments, Result]):
    """A decorator of a function that builds a training: calling it builds the training and runs it.

    `build` only builds it: all arguments are checked, nothing is read from or written to a folder.
    A bar is shown where no `progress` is given and stderr is a terminal.

    Args:
        build: Its parameters and docstring are those of the call.
    """

    def __init__(self, build: Callable[Arguments, Training[Result]]):
        update_wrapper(self, build)
        # what a call returns is what the training that `build` returns has trained
        self.__signature__ = signature(build).replace(return_annotation=Signature.empty)
        self.build = build

        @watched
        @wraps(build)
        def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            return build(*args, **kwargs).run()

        self._run = run

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return self._run(*args, **kwargs)

    def __reduce__(self) -> str:
        # by name, as a function is pickled
        return self.build.__qualname__

    def __repr__(self) -> str:
        return f"<function {self.build.__qualname__}>"
