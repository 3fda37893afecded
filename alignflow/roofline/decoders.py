r"""Ways to decode L new tokens after a context of S, and their work.

Contexts are cached: what reads them first costs each way the same and is not counted.

.. math::
    \text{tokens a round of speculation} = 1 + \alpha + \dots + \alpha^b

with b drafted tokens that are each accepted with probability alpha (Leviathan et al. 2023,
2211.17192). A flow map computes all L positions in each of its steps; its state, L V numbers of 4
bytes a sequence, is read by the embedding, a product as large as that of the head.
"""

from dataclasses import dataclass
from typing import Protocol

from alignflow import checks

from .model import Parts, Transformer
from .work import Work

__all__ = ["Autoregressive", "Decoder", "FlowMap", "Speculative"]

STATE_BYTES = 4


class Decoder(Protocol):
    """A way to decode."""

    @property
    def name(self) -> str:
        """As tables show it."""
        ...

    def passes(self, length: int) -> float:
        """Passes of the model, one after the other."""
        ...

    def parts(self, model: Transformer, context: int, length: int, batch: int) -> Parts:
        """Work of `length` new tokens for each of `batch` sequences, by parts."""
        ...


@dataclass(frozen=True)
class Autoregressive:
    """A token a pass, with a cache of keys and values."""

    @property
    def name(self) -> str:
        return "autoregressive"

    def passes(self, length: int) -> float:
        return length

    def parts(self, model: Transformer, context: int, length: int, batch: int) -> Parts:
        # all work is linear in the number of keys, which grows from context + 1
        one = model.forward(batch, 1, context + (length + 1) / 2)
        return _times(length, one)


@dataclass(frozen=True)
class Speculative:
    """A block of drafted tokens that one pass verifies.

    Args:
        block: b, drafted tokens.
        acceptance: alpha, the probability that one is accepted.
        draft: Work to draft a token, over that of a pass of the model for one; 0 where the
            model's pass drafts too, as heads for several tokens do (block decoding).
    """

    block: int = 4
    acceptance: float = 0.7
    draft: float = 0.1

    def __post_init__(self):
        checks.count("block", self.block)
        checks.fraction("acceptance", self.acceptance)
        checks.nonnegative("draft", self.draft)

    @property
    def name(self) -> str:
        return f"speculative, {self.block}"

    @property
    def tokens(self) -> float:
        """Expected tokens of a round."""
        return sum(self.acceptance**k for k in range(self.block + 1))

    def passes(self, length: int) -> float:
        return length / self.tokens

    def parts(self, model: Transformer, context: int, length: int, batch: int) -> Parts:
        keys, rounds = context + (length + 1) / 2, self.passes(length)
        verified = model.forward(batch, self.block + 1, keys + self.block / 2)
        drafted = sum(model.forward(batch, 1, keys).values(), Work())
        return _times(rounds, verified | {"draft": self.block * self.draft * drafted})


@dataclass(frozen=True)
class FlowMap:
    """All tokens at once, in a few steps.

    Args:
        steps: Jumps from noise to data.
        modulation: Weights that times modulate a block by, in squares of the width; applied once a
            sequence.
    """

    steps: int = 1
    modulation: float = 6.0

    def __post_init__(self):
        checks.count("steps", self.steps)
        checks.nonnegative("modulation", self.modulation)

    @property
    def name(self) -> str:
        return f"flow map, {self.steps} step{'s' if self.steps > 1 else ''}"

    def passes(self, length: int) -> float:
        return self.steps

    def parts(self, model: Transformer, context: int, length: int, batch: int) -> Parts:
        times = model.layers * model.linear(self.modulation * model.width**2, batch)
        step = model.forward(batch, length, context + length) | {
            "modulation": times,
            "embedding": model.linear(model.vocabulary * model.width, batch * length),
        }
        # noise is written once, each step reads the state, all but the last read and write it again
        moves = 1 + self.steps + 2 * (self.steps - 1)
        state = Work(0, STATE_BYTES * moves * batch * length * model.vocabulary)
        return _times(self.steps, step) | {"state": state}


def _times(number: float, parts: Parts) -> Parts:
    return {name: number * work for name, work in parts.items()}
