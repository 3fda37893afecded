"""A diffusion transformer with two times over soft tokens: logits on the simplex.

Attention sees all positions, which are told by rotary embeddings (Su et al. 2021, 2104.09864) and
by a learned vector each. What the state itself says of each token, with a prior of each position,
is given to the network and added to its logits, so that it learns what context adds. One modulation
by time serves all blocks, each with an offset (Chen et al. 2023, PixArt, 2310.00426).
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignflow import checks

from .dit import Block, Head, zero
from .embedding import TimePairEmbedding
from .rotary import rotary_table, turned
from .token_network import TokenNetwork

__all__ = ["TokenDiT"]


class TokenDiT(TokenNetwork):
    """Logits of tokens (L, V) by transformer blocks modulated by time.

    The last layer of the embedding of t - s is zero at the start: each jump begins as the denoiser.

    Args:
        length: Positions L.
        vocabulary: Tokens V.
        width: Features of a position.
        depth: Transformer blocks.
        heads: Attention heads; twice their number divides `width`.
        classes: Number of class labels, 0 for an unconditional network.
        likelihood: Whether the network is given the posterior of each token by its own position
            alone, whose logarithm is added to the logits.
        infill: Whether the condition is tokens that are fixed, (N, L), -1 where the network is to
            write one.
    """

    def __init__(
        self,
        length: int,
        vocabulary: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        classes: int = 0,
        likelihood: bool = True,
        infill: bool = False,
    ):
        length, vocabulary = checks.count("length", length), checks.count("vocabulary", vocabulary)
        width, depth = checks.count("width", width), checks.count("depth", depth)
        heads, classes = checks.count("heads", heads), checks.count("classes", classes, 0)
        if width % (2 * heads):
            raise ValueError(f"twice the heads must divide width, got width={width}, heads={heads}")
        if checks.flag("infill", infill) and classes:
            raise ValueError("the condition is a label or fixed tokens: classes=0 with infill=True")
        super().__init__(length, vocabulary, infill)
        self.arguments = {
            "length": length,
            "vocabulary": vocabulary,
            "width": width,
            "depth": depth,
            "heads": heads,
            "classes": classes,
            "likelihood": checks.flag("likelihood", likelihood),
            "infill": infill,
        }
        self.embed_state = nn.Linear(vocabulary, width)
        self.embed_posterior = nn.Linear(vocabulary, width, bias=False) if likelihood else None
        self.embed_fixed = nn.Parameter(torch.zeros(width)) if infill else None
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.embed_times = TimePairEmbedding(width, classes)
        zero(cast(nn.Linear, self.embed_times.length.mlp[-1]))
        self.modulation = zero(nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(_RotaryBlock(width, heads, length) for _ in range(depth))
        self.head = Head(width, vocabulary)

    def forward(self, x: Tensor, s: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """State (N, L, V), times (N,), label (N,) or tokens (N, L) -> logits (N, L, V)."""
        fixed, label = (condition, None) if self.infill else (None, condition)
        state, alone = self.read(x, s, fixed)
        tokens = self.embed_state(state) + self.position
        if self.embed_posterior is not None:
            tokens = tokens + self.embed_posterior(alone.softmax(-1))
        if self.embed_fixed is not None and fixed is not None:
            tokens = tokens + (fixed >= 0)[..., None] * self.embed_fixed
        embedding = F.silu(self.embed_times(s, t, label))
        modulation = self.modulation(embedding)
        for block in self.blocks:
            tokens = block(tokens, modulation)
        logits = self.head(tokens, embedding)
        if self.embed_posterior is not None:
            logits = logits + alone
        return self.write(logits, alone, fixed)


class _RotaryBlock(Block):
    """A block whose queries and keys are turned by their positions."""

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, heads: int, length: int):
        super().__init__(width, heads)
        self.modulation = _Offset(6 * width)
        cos, sin = rotary_table(length, width // heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def place(self, heads: Tensor) -> Tensor:
        return turned(heads, self.cos, self.sin)


class _Offset(nn.Module):
    """A block's offset of the modulation that all blocks have, (N, features)."""

    def __init__(self, features: int):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(features))

    def forward(self, modulation: Tensor) -> Tensor:
        return modulation + self.offset
