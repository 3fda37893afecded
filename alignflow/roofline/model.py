r"""A transformer's sizes, and the work of one of its forward passes.

For n queries that see S keys, in numbers of z bytes, attention alone costs

.. math:: \frac{4\, n\, S\, d}{z\,(2\, n\, d + 2\, S\, d_{kv})}
    = \frac{S\, n}{S + n} \text{ FLOP a byte at } z = 2,\ d_{kv} = d

Counted are the products of matrices, and what cannot stay on the chip from one half of a block to
the next: weights, keys and values, the residual stream, logits.
"""

from dataclasses import dataclass

from alignflow import checks

from .devices import BYTES
from .work import Work

__all__ = ["Transformer"]

Parts = dict[str, Work]


@dataclass(frozen=True)
class Transformer:
    """Sizes of a transformer.

    Args:
        layers: Blocks, of attention and an MLP.
        width: d, features of a position.
        heads: Attention heads; they divide `width`.
        kv_heads: Heads of keys and values, which divide `heads`; as many by default.
        vocabulary: V.
        expansion: Hidden features of the MLP, of two matrices, over the width.
        dtype: Of weights, activations and cache: float32, bfloat16, float16 or float8.
    """

    layers: int = 32
    width: int = 4096
    heads: int = 32
    kv_heads: int | None = None
    vocabulary: int = 32_000
    expansion: float = 4.0
    dtype: str = "bfloat16"

    def __post_init__(self):
        for name in ("layers", "width", "heads", "vocabulary"):
            checks.count(name, getattr(self, name))
        checks.positive("expansion", self.expansion)
        checks.choice("dtype", self.dtype, BYTES)
        if self.kv_heads is not None:
            checks.count("kv_heads", self.kv_heads)
        if self.width % self.heads or self.heads % (self.kv_heads or self.heads):
            raise ValueError(
                "heads must divide width, and kv_heads heads, got "
                f"width={self.width}, heads={self.heads}, kv_heads={self.kv_heads}"
            )

    @property
    def kv_width(self) -> int:
        """Features of the keys of a position, and of its values."""
        return self.width // self.heads * (self.kv_heads or self.heads)

    @property
    def block_weights(self) -> float:
        """Weights of a block: queries, keys, values, output, MLP."""
        square = 2 * self.width**2 + 2 * self.width * self.kv_width
        return square + 2 * self.expansion * self.width**2

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return BYTES[self.dtype]

    def linear(self, weights: float, rows: float) -> Work:
        """A product of rows with weights that are read once."""
        return Work(2 * weights * rows, self.size * weights)

    def attention(self, queries: float, keys: float) -> Work:
        """Attention of a block and a sequence: the cache is read, queries too; outputs written."""
        moved = 2 * keys * self.kv_width + 2 * queries * self.width
        return Work(4 * queries * keys * self.width, self.size * moved)

    def forward(self, batch: int, queries: float, keys: float) -> Parts:
        """A pass over some positions of each sequence, by its parts.

        Args:
            batch: Sequences.
            queries: Positions of a sequence that are computed.
            keys: Positions that they see, these included.
        """
        rows = batch * queries
        stored = Work(0, self.size * 2 * rows * self.kv_width)
        # what the MLP reads and writes; queries and outputs of attention are counted there
        stream = Work(0, self.size * 2 * rows * self.width)
        logits = Work(0, self.size * 2 * rows * self.vocabulary)
        return {
            "blocks": self.layers * (self.linear(self.block_weights, rows) + stream),
            "attention": self.layers * (batch * self.attention(queries, keys) + stored),
            "head": self.linear(self.width * self.vocabulary, rows) + logits,
        }
