r"""A causal transformer: logits of each next token, with a cache of keys and values.

.. math:: \log p(k) = \sum_l \log \mathrm{softmax}(z(k_{<l}))_{k_l}

What autoregressive decoding is compared by: attention, MLP, rotary positions and sizes of
`TokenDiT`, without times.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignflow import checks
from alignflow.draws import choices

__all__ = ["Cache", "CausalTransformer"]


class Cache:
    """Keys and values of the positions that were seen, (blocks, N, heads, L, features) each.

    Attributes:
        seen: Number of these positions.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], like: Tensor):
        self.keys, self.values = like.new_empty(shape), like.new_empty(shape)
        self.seen = 0

    def extend(self, block: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store those of new positions (N, heads, n, features); all of the block's so far."""
        end = self.seen + key.shape[2]
        self.keys[block, :, :, self.seen : end] = key
        self.values[block, :, :, self.seen : end] = value
        return self.keys[block, :, :, :end], self.values[block, :, :, :end]


class CausalTransformer(nn.Module):
    """Logits of the next token, at each of up to L positions.

    Args:
        length: Positions L.
        vocabulary: Tokens V.
        width: Features of a position.
        depth: Transformer blocks.
        heads: Attention heads; twice their number divides `width`.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self, length: int, vocabulary: int, width: int = 128, depth: int = 4, heads: int = 4
    ):
        super().__init__()
        self.length = checks.count("length", length)
        self.vocabulary = checks.count("vocabulary", vocabulary)
        width, depth = checks.count("width", width), checks.count("depth", depth)
        self.heads = checks.count("heads", heads)
        if width % (2 * heads):
            raise ValueError(f"twice the heads must divide width, got width={width}, heads={heads}")
        # the last row stands before the first token
        self.embed = nn.Embedding(vocabulary + 1, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        half = width // heads // 2
        angle = torch.arange(length)[:, None] * 10_000.0 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits of the tokens that follow each of some.

        Args:
            tokens: (N, n) in [0, V], V standing for the start; those after the cache's.
            cache: Of the tokens before them, and then of these too.

        Returns:
            (N, n, V).
        """
        start = 0 if cache is None else cache.seen
        end = start + tokens.shape[1]
        if end > self.length:
            raise ValueError(f"there are {self.length} positions, got tokens up to {end}")
        turn = self.cos[start:end], self.sin[start:end]
        x = self.embed(tokens)
        for number, block in enumerate(self.blocks):
            x = block(x, turn, None if cache is None else (cache, number))
        if cache is not None:
            cache.seen = end
        return self.head(self.norm(x))

    def empty_cache(self, n: int) -> Cache:
        """A cache for n strings."""
        weight = self.embed.weight
        features = weight.shape[1] // self.heads
        return Cache((len(self.blocks), n, self.heads, self.length, features), weight)

    def log_likelihood(self, tokens: Tensor) -> Tensor:
        """log p of strings (N, L) -> (N,), in nats."""
        start = torch.full_like(tokens[:, :1], self.vocabulary)
        logits = self(torch.cat([start, tokens[:, :-1]], 1))
        losses = F.cross_entropy(logits.mT, tokens, reduction="none")
        return -losses.sum(1)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n strings (n, L), token by token, by the cache."""
        token = torch.full((n, 1), self.vocabulary, device=self.embed.weight.device)
        cache, drawn = self.empty_cache(n), []
        for _ in range(self.length):
            probabilities = self(token, cache)[:, -1].float().softmax(-1)
            token = choices(probabilities, 1, generator)
            drawn.append(token)
        return torch.cat(drawn, 1)


class _Block(nn.Module):
    """Attention to the positions before and an MLP, each after a norm."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], cache: tuple[Cache, int] | None
    ) -> Tensor:
        x = x + self._attend(self.norms[0](x), turn, cache)
        return x + self.mlp(self.norms[1](x))

    def _attend(
        self, x: Tensor, turn: tuple[Tensor, Tensor], cache: tuple[Cache, int] | None
    ) -> Tensor:
        query, key, value = self.query_key_value(x).unflatten(2, (3, self.heads, -1)).unbind(2)
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        query, key = _turned(query, *turn), _turned(key, *turn)
        if cache is not None:
            stored, number = cache
            key, value = stored.extend(number, key, value)
        mixed = F.scaled_dot_product_attention(query, key, value, _mask(query, key))
        return self.mix(mixed.transpose(1, 2).flatten(2))


def _turned(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def _mask(query: Tensor, key: Tensor) -> Tensor | None:
    """Which keys each query may see: those up to its own position; None where it is all."""
    n, seen = query.shape[2], key.shape[2]
    if n == 1:
        return None
    return torch.ones(n, seen, dtype=torch.bool, device=key.device).tril(seen - n)
