"""A diffusion transformer with two times, for small images.

After Peebles and Xie 2023 (adaLN-Zero); the second time is embedded as the length of the jump.
Attention is written out, so that it has forward-mode derivatives (LSD and ESD need them).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignflow import checks

from .embedding import TimeEmbedding, TimePairEmbedding

__all__ = ["Block", "DiT", "Head", "zero"]


class DiT(nn.Module):
    """Average velocity of square images from patches, by transformer blocks modulated by time.

    Args:
        channels: Image channels C.
        size: Image height and width.
        patch: Side of a patch; divides `size`.
        width: Features of a token.
        depth: Transformer blocks.
        heads: Attention heads; divides `width`.
        classes: Number of class labels, 0 for an unconditional network.
        context: Whether it takes a context (t, x_t), as stochastic flow maps do. It enters through
            a gate that starts at zero, so a pretrained map is left as it was.
    """

    def __init__(
        self,
        channels: int = 3,
        size: int = 16,
        patch: int = 2,
        width: int = 192,
        depth: int = 8,
        heads: int = 6,
        classes: int = 0,
        context: bool = False,
    ):
        super().__init__()
        channels, size = checks.count("channels", channels), checks.count("size", size)
        patch, width = checks.count("patch", patch), checks.count("width", width)
        depth, heads = checks.count("depth", depth), checks.count("heads", heads)
        classes, context = checks.count("classes", classes, 0), checks.flag("context", context)
        if size % patch or width % heads:
            raise ValueError(
                f"patch must divide size and heads width, got size={size}, patch={patch}, "
                f"width={width}, heads={heads}"
            )
        self.arguments = {
            "channels": channels,
            "size": size,
            "patch": patch,
            "width": width,
            "depth": depth,
            "heads": heads,
            "classes": classes,
            "context": context,
        }
        self.patch = patch
        self.embed_patches = nn.Linear(channels * patch**2, width)
        self.position = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width))
        self.embed_times = TimePairEmbedding(width, classes)
        self.context = _Context(channels * patch**2, width) if context else None
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.head = Head(width, channels * patch**2)

    def takes(self, event_shape: Sequence[int]) -> bool:
        """Whether it takes states of a shape."""
        size = self.arguments["size"]
        return tuple(event_shape) == (self.arguments["channels"], size, size)

    def forward(
        self,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        condition: Tensor | None = None,
        context: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """State (N, C, H, W), times (N,), label (N,) -> average velocity (N, C, H, W)."""
        embedding = self.embed_times(s, t, condition)
        tokens = self.embed_patches(_patches(x, self.patch)) + self.position
        if context is not None:
            if self.context is None:
                raise ValueError("this network takes no context: build it with context=True")
            time, state = context
            token, shift = self.context(time, _patches(state, self.patch))
            tokens, embedding = tokens + token, embedding + shift
        embedding = F.silu(embedding)
        for block in self.blocks:
            tokens = block(tokens, embedding)
        return _image(self.head(tokens, embedding), self.patch, x.shape)


class Block(nn.Module):
    """Attention and an MLP, each modulated by an embedding (N, width)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.modulation = zero(nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(embedding)[:, None].chunk(
            6, dim=-1
        )
        x = x + gate1 * self.attend(self.norm(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm(x) * (1 + scale2) + shift2)

    def place(self, heads: Tensor) -> Tensor:
        """Queries or keys (N, heads, L, features) by their positions; here as they are."""
        return heads

    def attend(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        heads = self.query_key_value(x).reshape(n, length, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        query, key = self.place(query), self.place(key)
        weight = (query @ key.mT * query.shape[-1] ** -0.5).softmax(dim=-1)
        return self.mix((weight @ value).transpose(1, 2).reshape(n, length, width))


class Head(nn.Module):
    """Features of tokens (N, L, width), modulated by an embedding; zero at the start."""

    def __init__(self, width: int, features: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zero(nn.Linear(width, 2 * width))
        self.out = zero(nn.Linear(width, features))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        shift, scale = self.modulation(embedding)[:, None].chunk(2, dim=-1)
        return self.out(self.norm(x) * (1 + scale) + shift)


class _Context(nn.Module):
    def __init__(self, features: int, width: int):
        super().__init__()
        self.embed_patches = nn.Linear(features, width)
        self.embed_time = TimeEmbedding(width)
        self.gate = zero(nn.Linear(width, 2 * width))

    def forward(self, time: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Context as an addition to the tokens (N, L, width) and to the embedding (N, width)."""
        gate, shift = self.gate(F.silu(self.embed_time(time))).chunk(2, dim=-1)
        return gate[:, None] * self.embed_patches(patches), shift


def _patches(x: Tensor, patch: int) -> Tensor:
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(n, -1, c * patch**2)


def _image(tokens: Tensor, patch: int, shape: torch.Size) -> Tensor:
    n, c, h, w = shape
    x = tokens.reshape(n, h // patch, w // patch, c, patch, patch)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(shape)


def zero(layer: nn.Linear) -> nn.Linear:
    """The layer with all of its weights set to 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
