"""A residual MLP with two times over all soft tokens at once: for short strings of a finite list.

It is wide where a transformer is deep: each hidden unit sees the whole string. On lists of a
thousand strings it learns more a second than a transformer of as many parameters, and on open sets
less.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignflow import checks

from .dit import zero
from .embedding import TimePairEmbedding
from .token_network import TokenNetwork

__all__ = ["TokenMLP"]

TIMES = 128  # features of the times


class TokenMLP(TokenNetwork):
    """Logits of tokens (L, V) by residual blocks modulated by time.

    Args:
        length: Positions L.
        vocabulary: Tokens V.
        width: Features of a string.
        depth: Blocks, of twice as many hidden units each.
        infill: Whether the condition is tokens that are fixed, (N, L), -1 where the network is to
            write one.
    """

    def __init__(
        self,
        length: int,
        vocabulary: int,
        width: int = 480,
        depth: int = 2,
        infill: bool = False,
    ):
        length, vocabulary = checks.count("length", length), checks.count("vocabulary", vocabulary)
        width, depth = checks.count("width", width), checks.count("depth", depth)
        super().__init__(length, vocabulary, checks.flag("infill", infill))
        self.arguments = {
            "length": length,
            "vocabulary": vocabulary,
            "width": width,
            "depth": depth,
            "infill": infill,
        }
        size = length * vocabulary
        self.embed = nn.Linear(2 * size, width)
        self.embed_fixed = nn.Linear(length, width, bias=False) if infill else None
        self.embed_times = TimePairEmbedding(TIMES)
        zero(cast(nn.Linear, self.embed_times.length.mlp[-1]))
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = zero(nn.Linear(width, size))

    def forward(self, x: Tensor, s: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """State (N, L, V), times (N,), tokens (N, L) -> logits (N, L, V)."""
        fixed = condition if self.infill else None
        if condition is not None and fixed is None:
            raise ValueError("this network takes no condition: build it with infill=True")
        state, alone = self.read(x, s, fixed)
        posterior = x.shape[-1] ** 0.5 * alone.softmax(-1)
        features = self.embed(torch.cat([state, posterior], dim=-1).flatten(1))
        if self.embed_fixed is not None and fixed is not None:
            features = features + self.embed_fixed((fixed >= 0).to(x))
        times = F.silu(self.embed_times(s, t))
        for block in self.blocks:
            features = block(features, times)
        logits = self.out(self.norm(features)).reshape(x.shape) + alone
        return self.write(logits, alone, fixed)


class _Block(nn.Module):
    """An MLP of features (N, width) modulated by an embedding of the times."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zero(nn.Linear(TIMES, 3 * width))
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(times).chunk(3, dim=-1)
        return x + (1 + gate) * self.mlp(self.norm(x) * (1 + scale) + shift)
