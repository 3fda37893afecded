"""A call in a forked process, with limits on time and memory.

The child shares what the parent has imported, so it starts in milliseconds; whatever a case does to
the state of its process dies with it, and a case that hangs in C code is ended all the same.
"""

import gc
import os
import pickle
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Answer", "apart", "child"]

TREE = str(Path(__file__).parents[2])
"""Root of the tree, where the library's code lies."""


@dataclass(frozen=True)
class Answer:
    """What came back from a call.

    Args:
        kind: "returned", "raised", "endless" (over time) or "died" (by a signal, or of memory).
        value: What was returned, or the exit status of what died.
        error: Name of the exception's class.
        bases: Names of the classes that it derives from.
        message: Of the exception.
        ours: Whether it was raised by a line of the library, and not of what it builds on.
        trace: The traceback.
        seconds: What it took.
    """

    kind: str
    value: Any = None
    error: str = ""
    bases: tuple[str, ...] = ()
    message: str = ""
    ours: bool = True
    trace: str = ""
    seconds: float = 0.0


def apart(call: Callable[[], Any], seconds: float = 10.0, gigabytes: float = 3.0) -> Answer:
    """Run a call in a child; its return value must pickle.

    Args:
        call: What is run.
        seconds: After which it counts as endless and is killed, with the children it has.
        gigabytes: Of memory that it may take beyond what the parent has.
    """
    start = time.perf_counter()
    reader, writer = os.pipe()
    pid = child(lambda: _answer(call, writer, gigabytes), seconds)
    os.close(writer)
    content = _read(reader, start + seconds)
    os.close(reader)
    if content is None:
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    seconds_taken = time.perf_counter() - start
    if content is None:
        return Answer("endless", seconds=seconds_taken)
    if not content:
        return Answer("died", os.waitstatus_to_exitcode(status), seconds=seconds_taken)
    return Answer(**pickle.loads(content), seconds=seconds_taken)


def child(call: Callable[[], int | None], alarm: float | None = None) -> int:
    """Fork a process, in a new group, that runs a call and exits with its value; its id.

    Args:
        call: What is run.
        alarm: Seconds after which the system ends it even if nobody waits for it any longer.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setpgid(0, 0)
        gc.disable()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if alarm is not None:
            signal.alarm(int(alarm) + 5)
        status = call() or 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _answer(call: Callable[[], Any], writer: int, gigabytes: float) -> None:
    _limit_memory(gigabytes)
    try:
        found: dict[str, Any] = {"kind": "returned", "value": call()}
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        found = {
            "kind": "raised",
            "error": type(error).__name__,
            "bases": tuple(kind.__name__ for kind in type(error).__mro__),
            "message": str(error),
            "ours": _is_ours(frames[-1].filename),
            "trace": "".join(traceback.format_exception(error)),
        }
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(pickle.dumps(found))


def _is_ours(filename: str) -> bool:
    return filename.startswith(TREE) and "/.venv/" not in filename and "/scripts/" not in filename


def _limit_memory(gigabytes: float) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _read(reader: int, deadline: float) -> bytes | None:
    """All that a pipe gives until it is closed; None if that is not before the deadline."""
    content = b""
    while True:
        left = deadline - time.perf_counter()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            return None
        if not (part := os.read(reader, 1 << 16)):
            return content
        content += part
