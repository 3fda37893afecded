r"""An autoregressive model of strings: logits of each next token, with a cache of keys and values.

.. math:: \log p(k) = \sum_l \log \mathrm{softmax}(z(k_{<l}))_{k_l}

What flow maps are compared with.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from alignflow import checks
from alignflow.draws import choices

from .token_transformer import TokenTransformer, token_nats, token_probabilities

__all__ = ["Cache", "CausalTransformer"]

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values (N, heads, L, features) of each block, of which steps fill one place after the
other: their shapes stay, so that a step can be compiled."""


class CausalTransformer(TokenTransformer):
    """A `TokenTransformer` in which a position sees those up to itself; token V is the start.

    Args:
        length: Positions L.
        vocabulary: Tokens V.
        width: Features of a position.
        depth: Transformer blocks.
        heads: Attention heads; twice their number divides `width`.
        end: Token after which a string is over, the padding by default; None where all strings
            have L tokens.
    """

    causal = True

    def __init__(
        self,
        length: int,
        vocabulary: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        end: int | None = 0,
    ):
        super().__init__(length, vocabulary, width, depth, heads)
        if end is not None:
            end = checks.count("end", end, least=0, most=vocabulary - 1)
        self.end = self.arguments["end"] = end

    def log_prob(self, tokens: Tensor) -> Tensor:
        """log p of strings (N, L), (N,), in nats, up to and with their first end."""
        tokens = tokens.long()
        start = torch.full_like(tokens[:, :1], self.vocabulary)
        nats = token_nats(self(torch.cat([start, tokens[:, :-1]], dim=1)), tokens)
        if self.end is not None:
            ends = (tokens == self.end).long()
            nats = nats.masked_fill(ends.cumsum(1) > ends, 0.0)
        return -nats.sum(1)

    def empty_cache(self, n: int) -> Cache:
        """A cache for n strings."""
        heads = self.arguments["heads"]
        shape = n, heads, self.length, self.arguments["width"] // heads
        zeros = self.position.new_zeros
        return [(zeros(shape), zeros(shape)) for _ in self.blocks]

    def step(self, tokens: Tensor, places: Tensor, cache: Cache) -> Tensor:
        """Logits of the tokens that follow each of some, which are put into the cache.

        Args:
            tokens: (N, n), those of earlier places being in the cache.
            places: Their positions, (n,).
            cache: Changed in place.

        Returns:
            (N, n, V).
        """
        x = self.embed(tokens) + self.position[places]
        cos, sin = self.cos[places], self.sin[places]
        seen = torch.arange(self.length, device=places.device) <= places[:, None]
        for block, (keys, values) in zip(self.each_block, cache, strict=True):
            query, key, value = block.split(x, cos, sin)
            keys.index_copy_(2, places, key)
            values.index_copy_(2, places, value)
            x = block.finish(x, F.scaled_dot_product_attention(query, keys, values, seen))
        return self.head(self.norm(x))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        step: Callable[[Tensor, Tensor, Cache], Tensor] | None = None,
    ) -> Tensor:
        """n strings, (n, L); drawing stops when all have ended.

        Args:
            n: How many.
            generator: Source of the draws.
            temperature: That logits are divided by.
            step: In place of the model's, such as a compiled one.
        """
        step = self.step if step is None else step
        cache, places = self.empty_cache(n), torch.arange(self.length, device=self.device)
        token = torch.full((n, 1), self.vocabulary, device=self.device)
        tokens = torch.full((n, self.length), self.end or 0, device=self.device)
        for i in range(self.length):
            logits = step(token, places[i : i + 1], cache)[:, 0]
            drawn = choices(token_probabilities(logits, temperature), 1, generator)
            token = drawn if self.end is None else torch.where(token == self.end, token, drawn)
            tokens[:, i] = token[:, 0]
            if self.end is not None and (token == self.end).all():
                break
        return tokens
