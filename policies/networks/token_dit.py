"""A diffusion transformer with two times over soft tokens: logits on the simplex.

Attention sees all positions, which are told by rotary embeddings (Su et al. 2021, 2104.09864). What
the state itself says of each token, with a prior of each position, is given to the network and
added to its logits, so that it learns what context adds.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignflow import checks
from alignflow.interpolants import expand_time
from alignflow.simplex import one_hot_states, token_log_likelihood

from .dit import Block, Head, zero
from .embedding import TimePairEmbedding

__all__ = ["TokenDiT"]


class TokenDiT(nn.Module):
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
    """

    log_prior: Tensor

    def __init__(
        self,
        length: int,
        vocabulary: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        classes: int = 0,
        likelihood: bool = True,
    ):
        super().__init__()
        length, vocabulary = checks.count("length", length), checks.count("vocabulary", vocabulary)
        width, depth = checks.count("width", width), checks.count("depth", depth)
        heads, classes = checks.count("heads", heads), checks.count("classes", classes, 0)
        if width % (2 * heads):
            raise ValueError(f"twice the heads must divide width, got width={width}, heads={heads}")
        self.arguments = {
            "length": length,
            "vocabulary": vocabulary,
            "width": width,
            "depth": depth,
            "heads": heads,
            "classes": classes,
            "likelihood": checks.flag("likelihood", likelihood),
        }
        self.embed_state = nn.Linear(vocabulary, width)
        self.embed_posterior = nn.Linear(vocabulary, width, bias=False) if likelihood else None
        self.register_buffer("log_prior", torch.zeros(length, vocabulary))
        self.embed_times = TimePairEmbedding(width, classes)
        zero(cast(nn.Linear, self.embed_times.length.mlp[-1]))
        self.blocks = nn.ModuleList(_RotaryBlock(width, heads, length) for _ in range(depth))
        self.head = Head(width, vocabulary)

    def takes(self, event_shape: Sequence[int]) -> bool:
        """Whether it takes states of a shape."""
        return tuple(event_shape) == tuple(self.log_prior.shape)

    def set_prior(self, tokens: Tensor, weights: Tensor | None = None) -> "TokenDiT":
        """The network itself, with the frequencies of the tokens at each position as its prior.

        Args:
            tokens: (N, L).
            weights: Of the rows, (N,); equal by default.
        """
        length, vocabulary = self.log_prior.shape
        if tokens.ndim != 2 or tokens.shape[1] != length:
            raise ValueError(f"tokens must be (N, {length}), got {tuple(tokens.shape)}")
        weight = torch.ones(len(tokens)) if weights is None else weights
        rows = one_hot_states(tokens, vocabulary)
        counts = torch.einsum("n,nlv->lv", (weight / weight.sum()).to(rows), rows)
        # as if each token had been seen once more in a row that is split among them
        smooth = (len(tokens) * counts + 1 / vocabulary) / (len(tokens) + 1)
        self.log_prior.copy_(smooth.log())
        return self

    def forward(self, x: Tensor, s: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """State (N, L, V), times (N,), label (N,) -> logits (N, L, V)."""
        embedding = F.silu(self.embed_times(s, t, condition))
        tokens = self.embed_state(x / _std(s, x))
        alone = 0.0
        if self.embed_posterior is not None:
            alone = token_log_likelihood(x, s) + self.log_prior
            tokens = tokens + self.embed_posterior(alone.softmax(-1))
        for block in self.blocks:
            tokens = block(tokens, embedding)
        return self.head(tokens, embedding) + alone


class _RotaryBlock(Block):
    """A block whose queries and keys are turned by their positions."""

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, heads: int, length: int):
        super().__init__(width, heads)
        half = width // heads // 2
        frequencies = 10_000.0 ** (-torch.arange(half) / half)
        angle = torch.arange(length)[:, None] * frequencies
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def place(self, heads: Tensor) -> Tensor:
        first, second = heads.chunk(2, dim=-1)
        turned = first * self.cos - second * self.sin, first * self.sin + second * self.cos
        return torch.cat(turned, dim=-1)


def _std(t: Tensor, x: Tensor) -> Tensor:
    """Standard deviation of a coordinate of a noised one-hot, to multiply states by."""
    t = expand_time(t, x)
    return ((1 - t).square() + t.square() / x.shape[-1]).sqrt()
