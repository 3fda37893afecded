"""What decoding costs on a device at least: one row of the roofline's table."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from alignflow import checks

from .decoders import Decoder
from .devices import Device
from .model import Parts, Transformer
from .work import Work, attainable, least_seconds

__all__ = ["Estimate"]


@dataclass(frozen=True)
class Estimate:
    """Work and least time of new tokens for a batch of sequences.

    Args:
        decoder: How they are decoded.
        model: The transformer.
        device: Where.
        context: S, tokens before the new ones.
        length: L, new tokens of a sequence.
        batch: Sequences.
    """

    decoder: Decoder
    model: Transformer
    device: Device
    context: int = 0
    length: int = 128
    batch: int = 1

    def __post_init__(self):
        checks.count("context", self.context, least=0)
        checks.count("length", self.length)
        checks.count("batch", self.batch)
        self.device.rate(self.model.dtype)

    @property
    def case(self) -> tuple[Decoder, int]:
        """How, and how many sequences."""
        return self.decoder, self.batch

    @cached_property
    def parts(self) -> Parts:
        """Work by parts."""
        return self.decoder.parts(self.model, self.context, self.length, self.batch)

    @cached_property
    def work(self) -> Work:
        """All of it."""
        return sum(self.parts.values(), Work())

    @property
    def attainable(self) -> float:
        """FLOP a second at most."""
        return attainable(self.work, self.device, self.model.dtype)

    @property
    def seconds(self) -> float:
        """At least."""
        return least_seconds(self.work, self.device, self.model.dtype)

    @property
    def tokens_a_second(self) -> float:
        """At most, of all sequences together."""
        return self.batch * self.length / self.seconds

    @property
    def limit(self) -> str:
        """What limits: memory or compute."""
        below = self.work.intensity < self.device.ridge(self.model.dtype)
        return "memory" if below else "compute"

    def as_dict(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        return {
            "decoder": self.decoder.name,
            "device": self.device.name,
            "batch": self.batch,
            "passes": self.decoder.passes(self.length),
            "flops": self.work.flops,
            "bytes": self.work.bytes,
            "intensity": self.work.intensity,
            "attainable": self.attainable,
            "limit": self.limit,
            "seconds": self.seconds,
            "tokens_a_second": self.tokens_a_second,
            "parts": {
                name: {"flops": work.flops, "bytes": work.bytes}
                for name, work in self.parts.items()
            },
        }
