"""The trunk of the baselines: the transformer of `TokenDiT` on token ids, without times.

At the same width and depth it has about as many parameters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignflow.policies.networks.dit import zero

__all__ = ["Block", "Cache", "Trunk", "token_nats"]

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values (N, heads, L, features) of each block."""


class Trunk(nn.Module):
    """Logits (N, L, V) of token ids (N, L) of V tokens and one more, V itself.

    Args:
        length: Positions L.
        vocabulary: Tokens V.
        width: Features of a position.
        depth: Blocks.
        heads: Attention heads; twice their number divides `width`.
    """

    causal = False

    def __init__(self, length: int, vocabulary: int, width: int, depth: int, heads: int):
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"twice the heads must divide width, got width={width}, heads={heads}")
        self.arguments = {
            "length": length,
            "vocabulary": vocabulary,
            "width": width,
            "depth": depth,
            "heads": heads,
        }
        self.length, self.vocabulary = length, vocabulary
        self.embed = nn.Embedding(vocabulary + 1, width)
        # where all tokens are masked, rotary embeddings alone tell no position from another
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, heads, length, self.causal) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = zero(nn.Linear(width, vocabulary))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.position.device


class Block(nn.Module):
    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, heads: int, length: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mix = zero(nn.Linear(width, width))
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(approximate="tanh"),
            zero(nn.Linear(4 * width, width)),
        )
        half = width // heads // 2
        frequencies = 10_000.0 ** (-torch.arange(half) / half)
        angle = torch.arange(length)[:, None] * frequencies
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split(self.norm1(x), self.cos, self.sin)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.finish(x, seen)

    def step(self, x: Tensor, place: Tensor, mask: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """One position (N, 1, width), at place (1,), which is written into the keys and values."""
        cos, sin = self.cos[place], self.sin[place]
        query, key, value = self.split(self.norm1(x), cos, sin)
        keys.index_copy_(2, place, key)
        values.index_copy_(2, place, value)
        return self.finish(x, F.scaled_dot_product_attention(query, keys, values, attn_mask=mask))

    def split(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, turned by their positions, and values, (N, heads, L, features)."""
        n, length, width = x.shape
        heads = self.query_key_value(x).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        return _turn(query, cos, sin), _turn(key, cos, sin), value

    def finish(self, x: Tensor, seen: Tensor) -> Tensor:
        x = x + self.mix(seen.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.norm2(x))


def token_nats(logits: Tensor, tokens: Tensor) -> Tensor:
    """-log p of each token (N, L) under logits (N, L, V), in float32 at least."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(wide.mT, tokens, reduction="none")


def _turn(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = heads.chunk(2, dim=-1)
    turned = first * cos - second * sin, first * sin + second * cos
    # cosines are float32, also where the heads are not
    return torch.cat(turned, dim=-1).to(heads)
