"""A transformer of token ids: attention, MLP, rotary positions and sizes of `TokenDiT`, no times.

At the same width and depth it has about as many parameters.
"""

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignflow import checks
from alignflow.precision import accumulation_dtype

from .dit import zero
from .rotary import rotary_table, turned

__all__ = ["Block", "TokenTransformer", "token_nats", "token_probabilities"]


class TokenTransformer(nn.Module):
    """Logits (N, L, V) of token ids (N, L): V tokens and one more, V itself.

    Args:
        length: Positions L.
        vocabulary: Tokens V.
        width: Features of a position.
        depth: Transformer blocks.
        heads: Attention heads; twice their number divides `width`.

    Attributes:
        arguments: Of the constructor.
    """

    causal = False
    cos: Tensor
    sin: Tensor

    def __init__(
        self, length: int, vocabulary: int, width: int = 128, depth: int = 4, heads: int = 4
    ):
        super().__init__()
        self.length = checks.count("length", length)
        self.vocabulary = checks.count("vocabulary", vocabulary)
        width, depth = checks.count("width", width), checks.count("depth", depth)
        heads = checks.count("heads", heads)
        if width % (2 * heads):
            raise ValueError(f"twice the heads must divide width, got width={width}, heads={heads}")
        self.arguments: dict[str, Any] = {
            "length": length,
            "vocabulary": vocabulary,
            "width": width,
            "depth": depth,
            "heads": heads,
        }
        self.embed = nn.Embedding(vocabulary + 1, width)
        # where all tokens are masked, rotary embeddings alone tell no position from another
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = zero(nn.Linear(width, vocabulary))
        cos, sin = rotary_table(length, width // heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        n = tokens.shape[1]
        if n > self.length:
            raise ValueError(f"there are {self.length} positions, got tokens up to {n}")
        x = self.embed(tokens) + self.position[:n]
        for block in self.each_block:
            x = block(x, self.cos[:n], self.sin[:n], self.causal)
        return self.head(self.norm(x))

    @property
    def each_block(self) -> Iterable["Block"]:
        """The blocks, in order."""
        return cast(Iterable[Block], self.blocks)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.position.device


class Block(nn.Module):
    """Attention and an MLP, each after a norm, and 0 at the start."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mix = zero(nn.Linear(width, width))
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(approximate="tanh"),
            zero(nn.Linear(4 * width, width)),
        )

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, causal: bool) -> Tensor:
        query, key, value = self.split(x, cos, sin)
        # as `TokenDiT` does; on a CPU torch's fused attention is slow for short strings in bf16
        weight = query @ key.mT * query.shape[-1] ** -0.5
        if causal:
            later = torch.ones(weight.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
            weight = weight.masked_fill(later, -torch.inf)
        return self.finish(x, weight.softmax(-1) @ value)

    def split(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, turned by their positions, and values, (N, heads, n, features)."""
        n, length, width = x.shape
        heads = self.query_key_value(self.norm1(x))
        heads = heads.view(n, length, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        return turned(query, cos, sin), turned(key, cos, sin), value

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The block's output of its input (N, n, width), and what its attention gave."""
        x = x + self.mix(attended.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.norm2(x))


def token_nats(logits: Tensor, tokens: Tensor) -> Tensor:
    """-log p of each token (N, L) under logits (N, L, V), in float32 at least."""
    return F.cross_entropy(_wide(logits).mT, tokens, reduction="none")


def token_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Of tokens by logits (*, V) that are divided by a temperature, in float32 at least."""
    return (_wide(logits) / temperature).softmax(-1)


def _wide(logits: Tensor) -> Tensor:
    return logits.to(accumulation_dtype(logits))
