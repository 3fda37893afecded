r"""Work of decoding: FLOP, bytes, and the least time that a device needs for them.

.. math::
    \text{intensity} = \frac{\text{FLOP}}{\text{bytes}}, \qquad
    \text{attainable} = \min(\text{peak}, \text{intensity} \times \text{bandwidth}), \qquad
    \text{seconds} \ge \frac{\text{FLOP}}{\text{attainable}}

Source: Williams, Waterman, Patterson 2009.
"""

from dataclasses import dataclass

from .devices import Device

__all__ = ["Work", "attainable", "least_seconds"]


@dataclass(frozen=True)
class Work:
    """FLOP and bytes moved from and to memory; works add, and are multiplied by numbers."""

    flops: float = 0.0
    bytes: float = 0.0

    @property
    def intensity(self) -> float:
        """FLOP a byte."""
        return self.flops / self.bytes

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: float) -> "Work":
        return Work(times * self.flops, times * self.bytes)

    __rmul__ = __mul__


def attainable(work: Work, device: Device, dtype: str) -> float:
    """FLOP a second that a device can reach at most."""
    return min(device.rate(dtype), work.intensity * device.bandwidth)


def least_seconds(work: Work, device: Device, dtype: str) -> float:
    """Seconds that a device needs at least."""
    return work.flops / attainable(work, device, dtype)
