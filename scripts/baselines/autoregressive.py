"""An autoregressive model of strings: one token after the other, with a cache of keys and values.

A string ends with its first padding (token 0), so the likelihood is one of strings and exact.
"""

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor
from trunk import Block, Cache, Trunk, token_nats

from alignflow.draws import choices

__all__ = ["Autoregressive"]


class Autoregressive(Trunk):
    """Causal attention; token V is the start."""

    causal = True

    def loss(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """-log p of strings (N, L), (N,), in nats."""
        del generator
        return -self.log_prob(tokens)

    def log_prob(self, tokens: Tensor) -> Tensor:
        """log p of strings (N, L), (N,), in nats, up to and with their first padding."""
        tokens = tokens.long()
        start = torch.full_like(tokens[:, :1], self.vocabulary)
        nats = token_nats(self(torch.cat([start, tokens[:, :-1]], dim=1)), tokens)
        ended = (tokens == 0).cumsum(1) - (tokens == 0).long() > 0
        return -nats.masked_fill(ended, 0.0).sum(1)

    def cache(self, n: int) -> Cache:
        """An empty cache of n strings."""
        heads = self.arguments["heads"]
        shape = n, heads, self.length, self.arguments["width"] // heads
        return [
            (self.position.new_zeros(shape), self.position.new_zeros(shape)) for _ in self.blocks
        ]

    def step(self, token: Tensor, place: Tensor, cache: Cache) -> Tensor:
        """Logits (N, V) of the token after `token` (N,), which is at place (1,) of the input."""
        x = self.embed(token)[:, None] + self.position[place]
        mask = torch.arange(self.length, device=place.device) <= place
        blocks = cast(Iterable[Block], self.blocks)
        for block, (keys, values) in zip(blocks, cache, strict=True):
            x = block.step(x, place, mask[None], keys, values)
        return self.head(self.norm(x))[:, 0]

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
        cache, places = self.cache(n), torch.arange(self.length, device=self.device)
        tokens = torch.zeros((n, self.length), dtype=torch.long, device=self.device)
        token = torch.full((n,), self.vocabulary, device=self.device)
        going = torch.ones(n, dtype=torch.bool, device=self.device)
        for i in range(self.length):
            logits = step(token, places[i : i + 1], cache)
            drawn = choices((logits / temperature).softmax(-1), 1, generator)[:, 0]
            token = torch.where(going, drawn, 0)
            tokens[:, i] = token
            going = token > 0
            if not going.any():
                break
        return tokens
