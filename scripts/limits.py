"""What the parts of a check share: the time that is left, and how a failure is told."""

import re
import time

__all__ = ["FAILED", "Limit", "failed"]

FAILED = "failed: "


class Limit:
    """Seconds that are left of so many minutes."""

    def __init__(self, minutes: float):
        self.end = time.monotonic() + 60 * minutes

    @property
    def left(self) -> float:
        return self.end - time.monotonic()


def failed(error: Exception) -> str:
    """An error in one line."""
    return FAILED + re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")[:160]
