"""This machine: how fast it copies and multiplies, and how fast networks decode on it."""

import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from .devices import Device

__all__ = ["Rate", "measured_device", "time_calls"]

Key = TypeVar("Key", bound=Hashable)

ROUNDS = 5


@dataclass(frozen=True)
class Rate:
    """Work a second: the median of several rounds, and their range."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, work: float, seconds: list[float]) -> "Rate":
        """Of work that took so many seconds in each round."""
        rates = [work / each for each in seconds]
        return cls(statistics.median(rates), min(rates), max(rates))


def time_calls(
    calls: Mapping[Key, Callable[[], object]], device: torch.device, rounds: int = ROUNDS
) -> dict[Key, list[float]]:
    """Seconds of calls that take turns, after a round that does not count."""
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    for number in range(rounds + 1):
        for key, call in calls.items():
            started = _now(device)
            call()
            elapsed = _now(device) - started
            if number:
                seconds[key].append(elapsed)
    return seconds


def measured_device(device: torch.device, dtype: str) -> Device:
    """A machine by the best of its rounds: a copy that no cache holds, and a large product."""
    cuda = device.type == "cuda"
    numbers = torch.ones(2**28 if cuda else 2**25, device=device)
    size = 8192 if cuda else 1024
    square = torch.ones(size, size, device=device, dtype=getattr(torch, dtype))
    copy = torch.empty_like(numbers)
    calls = {"copy": lambda: copy.copy_(numbers), "product": lambda: square @ square}
    seconds = time_calls(calls, device)
    bandwidth = Rate.of(2 * numbers.nbytes, seconds["copy"])
    peak = Rate.of(2 * size**3, seconds["product"])
    name = torch.cuda.get_device_name(device) if cuda else f"this {platform.machine()} CPU"
    source = (
        f"measured, the best of {ROUNDS}: medians {bandwidth.median / 1e9:.3g} GB/s and "
        f"{peak.median / 1e9:.3g} GFLOP/s"
    )
    return Device(name, {dtype: peak.most}, bandwidth.most, source)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
