"""How a stage ends when it is interrupted: a training at its next step, all else at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from alignflow.interrupts import Interrupted, deferred_signals

__all__ = ["interruptible", "terminable"]

TRAININGS = {"pretrain", "learn_posterior", "finetune"}


def interruptible(stage: str) -> AbstractContextManager[Any]:
    """Inside, Ctrl-C and SIGTERM end a stage where it can be continued."""
    return deferred_signals() if stage in TRAININGS else terminable()


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM is raised where it comes, as Ctrl-C is.

    Outside the main thread, and where a program has a handler of its own, nothing is changed.

    Raises:
        Interrupted: When the signal comes.
    """
    own = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    if own or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(number: int, frame: Any) -> None:
    raise Interrupted("stopped by SIGTERM", signal.Signals(number))
