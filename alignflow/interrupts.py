"""Ctrl-C and SIGTERM as requests: long work ends where it can be continued, and not in between.

::

    with deferred_signals() as pending:
        for number, part in enumerate(parts):
            pending.raise_if_any(f"before part {number}")
            ...

Around all of it, `terminable` makes SIGTERM what Ctrl-C is, and `resumable` adds how to go on.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = [
    "Interrupted",
    "PendingSignal",
    "deferred_signals",
    "note_resume",
    "pending_signal",
    "resumable",
    "terminable",
]

# replaced only where nobody else has set a handler
DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
STDERR = 2


class Interrupted(KeyboardInterrupt):
    """Work was ended by a signal at a place from which it can be continued.

    Args:
        message: Where it ended, and how to continue.
        signal: Which signal; a program exits with 128 + its number.
    """

    def __init__(self, message: str, signal: signal.Signals):
        super().__init__(message)
        self.signal = signal


class PendingSignal:
    """The signal that has come and waits for a good place to end the work, if any has.

    Attributes:
        signal: Which one; None until one comes.
    """

    def __init__(self):
        self.signal: signal.Signals | None = None
        self._replaced: dict[signal.Signals, Any] = {}

    def raise_if_any(self, where: str) -> None:
        """End the work here if a signal waits.

        Raises:
            Interrupted: Saying by which signal, and `where`.
        """
        if self.signal is not None:
            raise Interrupted(f"stopped by {self.signal.name} {where}", self.signal)

    @property
    def active(self) -> bool:
        """Whether signals come here."""
        return bool(self._replaced)

    def install(self) -> None:
        """Receive the signals that nobody else has a handler for."""
        for number, default in DEFAULTS.items():
            if signal.getsignal(number) in (default, _raise):
                self._replaced[number] = signal.signal(number, self._receive)

    def uninstall(self) -> None:
        """Restore the handlers that were replaced."""
        for number, replaced in self._replaced.items():
            signal.signal(number, replaced)
        self._replaced = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        received = signal.Signals(number)
        if self.signal is not None:
            signal.signal(received, self._replaced[received])
            signal.raise_signal(received)
            return
        self.signal = received
        # not by print, which may be what was interrupted
        with contextlib.suppress(OSError):
            os.write(STDERR, f"\n{received.name}: stops soon; once more to stop now\n".encode())


@contextlib.contextmanager
def deferred_signals() -> Iterator[PendingSignal]:
    """Inside, the first SIGINT or SIGTERM waits to be asked for; a second one acts at once.

    Contexts nest: an inner one yields that of the outer one. A signal that nobody asked for is
    raised at the end of the outermost. Outside the main thread, where no signal arrives, and where
    a program has set handlers, nothing is changed.

    Raises:
        Interrupted: At the end, if a signal waits there still.
    """
    pending = pending_signal()
    if pending.active:
        yield pending
        return
    if threading.current_thread() is threading.main_thread():
        pending.install()
    try:
        yield pending
    finally:
        pending.uninstall()
    pending.raise_if_any("at the end of what it was doing")


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM is raised where it comes, as Ctrl-C is.

    Outside the main thread, and where a program has set a handler, nothing is changed.

    Raises:
        Interrupted: When the signal comes.
    """
    handled = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    if handled or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Interrupted("stopped by SIGTERM", signal.Signals(number))


@contextlib.contextmanager
def resumable(folder: str | Path, what: str = "the run") -> Iterator[None]:
    """Whatever interrupts the work inside has a note of how it goes on; see `note_resume`."""
    try:
        yield
    except KeyboardInterrupt as stop:
        note_resume(stop, folder, what)
        raise


def note_resume(stop: KeyboardInterrupt, folder: str | Path, what: str) -> None:
    """Add to an interruption, once, how the work in a folder goes on.

    Args:
        stop: The interruption.
        folder: Of the run or sweep.
        what: Was stopped.
    """
    way = f"`alignflow resume {folder}`"
    if not any(way in note for note in getattr(stop, "__notes__", ())):
        stop.add_note(f"{what} was stopped. What was done is kept: {way}")


def pending_signal() -> PendingSignal:
    """That of the context around; outside of one, a new one that no signal reaches."""
    if threading.current_thread() is threading.main_thread():
        for number in DEFAULTS:
            owner = getattr(signal.getsignal(number), "__self__", None)
            if isinstance(owner, PendingSignal):
                return owner
    return PendingSignal()
