"""A diffusion transformer with two times over soft tokens: logits on the simplex.

Attention sees all positions, which are told by rotary embeddings (Su et al. 2021, 2104.09864) and
by a learned vector each. What the state itself says of each token, with a prior of each position,
is given to the network and added to its logits, so that it learns what context adds. One modulation
by time serves all blocks, each with an offset (Chen et al. 2023, PixArt, 2310.00426).
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignflow import checks
from alignflow.interpolants import expand_time
from alignflow.simplex import check_fixed_tokens, check_tokens, token_log_likelihood

from .dit import Block, Head, zero
from .embedding import TimePairEmbedding, check_labels

__all__ = ["TokenDiT"]

CERTAIN = 30.0  # logit of a fixed token above all others: e^-30 is 0 beside 1 in float32


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
        infill: Whether the condition is tokens that are fixed, (N, L), -1 where the network is to
            write one.
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
        infill: bool = False,
    ):
        super().__init__()
        length, vocabulary = checks.count("length", length), checks.count("vocabulary", vocabulary)
        width, depth = checks.count("width", width), checks.count("depth", depth)
        heads, classes = checks.count("heads", heads), checks.count("classes", classes, 0)
        if width % (2 * heads):
            raise ValueError(f"twice the heads must divide width, got width={width}, heads={heads}")
        if checks.flag("infill", infill) and classes:
            raise ValueError("the condition is a label or fixed tokens: classes=0 with infill=True")
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
        self.register_buffer("log_prior", torch.zeros(length, vocabulary))
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.embed_times = TimePairEmbedding(width, classes)
        zero(cast(nn.Linear, self.embed_times.length.mlp[-1]))
        self.modulation = zero(nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(_RotaryBlock(width, heads, length) for _ in range(depth))
        self.head = Head(width, vocabulary)

    @property
    def null_condition(self) -> Tensor | None:
        """The row that fixes no token, (L,), of a network that takes fixed tokens."""
        if self.embed_fixed is None:
            return None
        return self.embed_fixed.new_full((len(self.log_prior),), -1, dtype=torch.long)

    def check_condition(self, condition: Tensor) -> None:
        """Refuse what is no condition of this network.

        Raises:
            ValueError: It says what came and what was wanted.
        """
        if self.embed_fixed is not None:
            check_fixed_tokens(condition, self.log_prior.shape)
        elif classes := self.arguments["classes"]:
            check_labels(condition, classes)

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
        check_tokens(tokens, vocabulary)
        weight = torch.ones(len(tokens)) if weights is None else weights
        weight = (weight / weight.sum()).double().expand(length, -1)
        counts = torch.zeros(length, vocabulary, dtype=torch.float64)
        counts.scatter_add_(1, tokens.T.long(), weight)
        # as if each token had been seen once more in a row that is split among them
        smooth = (len(tokens) * counts + 1 / vocabulary) / (len(tokens) + 1)
        self.log_prior.copy_(smooth.log())
        return self

    def forward(self, x: Tensor, s: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """State (N, L, V), times (N,), label (N,) or tokens (N, L) -> logits (N, L, V)."""
        fixed = None
        if self.embed_fixed is not None and condition is not None:
            fixed, condition = condition, None
        state, alone = x / _std(s, x), token_log_likelihood(x, s) + self.log_prior
        if fixed is not None:
            state, alone = self._with_fixed(fixed, state, alone)
        tokens = self.embed_state(state) + self.position
        if self.embed_posterior is not None:
            tokens = tokens + self.embed_posterior(alone.softmax(-1))
        if fixed is not None:
            tokens = tokens + (fixed >= 0)[..., None] * self.embed_fixed
        embedding = F.silu(self.embed_times(s, t, condition))
        modulation = self.modulation(embedding)
        for block in self.blocks:
            tokens = block(tokens, modulation)
        logits = self.head(tokens, embedding)
        if self.embed_posterior is not None:
            logits = logits + alone
        # what the network adds must not move a token that is fixed
        return logits if fixed is None else torch.where((fixed >= 0)[..., None], alone, logits)

    def _with_fixed(self, fixed: Tensor, state: Tensor, alone: Tensor) -> tuple[Tensor, Tensor]:
        """States and log-posteriors with fixed tokens as at time 1."""
        check_fixed_tokens(fixed, self.log_prior.shape)
        known = (fixed >= 0)[..., None]
        token = F.one_hot(fixed.clamp(min=0), state.shape[-1]).to(state)
        root = state.shape[-1] ** 0.5  # of a one-hot state over its std at time 1
        return torch.where(known, root * token, state), torch.where(known, CERTAIN * token, alone)


class _RotaryBlock(Block):
    """A block whose queries and keys are turned by their positions."""

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, heads: int, length: int):
        super().__init__(width, heads)
        self.modulation = _Offset(6 * width)
        half = width // heads // 2
        frequencies = 10_000.0 ** (-torch.arange(half) / half)
        angle = torch.arange(length)[:, None] * frequencies
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def place(self, heads: Tensor) -> Tensor:
        first, second = heads.chunk(2, dim=-1)
        turned = first * self.cos - second * self.sin, first * self.sin + second * self.cos
        return torch.cat(turned, dim=-1)


class _Offset(nn.Module):
    """A block's offset of the modulation that all blocks have, (N, features)."""

    def __init__(self, features: int):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(features))

    def forward(self, modulation: Tensor) -> Tensor:
        return modulation + self.offset


def _std(t: Tensor, x: Tensor) -> Tensor:
    """Standard deviation of a coordinate of a noised one-hot, to multiply states by."""
    t = expand_time(t, x)
    return ((1 - t).square() + t.square() / x.shape[-1]).sqrt()
