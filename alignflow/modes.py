"""Evaluation mode and frozen parameters as context managers, which several threads may nest."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from torch import nn

__all__ = ["evaluating", "frozen"]


class _Switch:
    """An attribute that is False while anybody wants it so, and then as it was.

    A second thread finds what the first has switched off already, and must neither take that for
    how it was, nor lose it when the first is done.
    """

    def __init__(self, attribute: str):
        self.attribute = attribute
        self.users: dict[int, int] = {}
        self.lock = Lock()

    @contextmanager
    def off(self, owners: list[Any]) -> Iterator[None]:
        with self.lock:
            held = [o for o in owners if id(o) in self.users or getattr(o, self.attribute)]
            for owner in held:
                self.users[id(owner)] = self.users.get(id(owner), 0) + 1
                setattr(owner, self.attribute, False)
        try:
            yield
        finally:
            with self.lock:
                for owner in held:
                    self.users[id(owner)] -= 1
                    if not self.users[id(owner)]:
                        del self.users[id(owner)]
                        setattr(owner, self.attribute, True)


_training, _gradients = _Switch("training"), _Switch("requires_grad")


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; as it was, outside."""
    # the attribute itself: a module may refuse to be switched by `train`
    with _training.off(list({m for module in modules for m in module.modules()})):
        yield


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """No gradients for parameters and evaluation mode inside; as it was, outside."""
    parameters = {p for module in modules for p in module.parameters()}
    with evaluating(*modules), _gradients.off(list(parameters)):
        yield
