"""A convolutional U-Net with two times, for images.

After Ho et al. 2020 with adaptive group normalization (Dhariwal and Nichol 2021). Ours, because the
U-Nets of libraries take one time, and attention kernels without forward-mode derivatives.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignflow import checks

from .embedding import TimeEmbedding, TimePairEmbedding

__all__ = ["UNet"]


class UNet(nn.Module):
    """Average velocity of images, by residual blocks at falling and rising resolutions.

    Args:
        channels: Image channels C.
        widths: Features at each resolution, finest first; the image is halved between them.
        blocks: Residual blocks at each resolution on the way down (one more on the way up).
        attention: Whether each resolution has self-attention.
        classes: Number of class labels, 0 for an unconditional network.
        context: Whether it takes a context (t, x_t), as stochastic flow maps do. It enters through
            a gate that starts at zero, so a pretrained map is left as it was.
        patch: Side of the squares of pixels that are folded into channels first; with 2, four times
            fewer positions, which is what a processor's time goes into.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: Sequence[int] = (64, 128),
        blocks: int = 2,
        attention: Sequence[bool] = (False, True),
        classes: int = 0,
        context: bool = False,
        patch: int = 1,
    ):
        super().__init__()
        widths, attention = _sequence("widths", widths), _sequence("attention", attention)
        if not widths or len(widths) != len(attention):
            raise ValueError(
                f"widths and attention must be equally long, got {widths} and {attention}"
            )
        self.arguments = {
            "channels": checks.count("channels", channels),
            "widths": [checks.count("widths", width) for width in widths],
            "blocks": checks.count("blocks", blocks),
            "attention": [checks.flag("attention", one) for one in attention],
            "classes": checks.count("classes", classes, 0),
            "context": checks.flag("context", context),
            "patch": checks.count("patch", patch),
        }
        self._build(**self.arguments)

    def _build(
        self,
        channels: int,
        widths: list[int],
        blocks: int,
        attention: list[bool],
        classes: int,
        context: bool,
        patch: int,
    ) -> None:
        self.patch = patch
        channels *= patch**2
        embedding = 4 * widths[0]
        self.embed_times = TimePairEmbedding(embedding, classes)
        self.context = _Context(channels, widths[0], embedding) if context else None
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        features, skips = widths[0], [widths[0]]
        self.down = nn.ModuleList()
        for stage, width in enumerate(widths):
            for _ in range(blocks):
                self.down.append(_Block(features, width, embedding, attention[stage]))
                features = width
                skips.append(features)
            if stage < len(widths) - 1:
                self.down.append(_Downsample(features))
                skips.append(features)
        self.middle = _Block(features, features, embedding, True)
        self.up = nn.ModuleList()
        for stage, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(_Block(features + skips.pop(), width, embedding, attention[stage]))
                features = width
            if stage > 0:
                self.up.append(_Upsample(features))
        self.norm = nn.GroupNorm(8, features)
        self.last = _zero(nn.Conv2d(features, channels, 3, padding=1))

    def takes(self, event_shape: Sequence[int]) -> bool:
        """Whether it takes states of a shape: divisible by 2 at each resolution but the last."""
        unit = self.patch * 2 ** (len(self.arguments["widths"]) - 1)
        channels, *sides = event_shape
        return (
            channels == self.arguments["channels"]
            and len(sides) == 2
            and all(side % unit == 0 for side in sides)
        )

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
        hidden = self.first(F.pixel_unshuffle(x, self.patch))
        if context is not None:
            if self.context is None:
                raise ValueError("this network takes no context: build it with context=True")
            time, state = context
            image, shift = self.context(time, F.pixel_unshuffle(state, self.patch))
            hidden, embedding = hidden + image, embedding + shift
        embedding = F.silu(embedding)
        skips = [hidden]
        for layer in self.down:
            hidden = layer(hidden, embedding)
            skips.append(hidden)
        hidden = self.middle(hidden, embedding)
        for layer in self.up:
            if isinstance(layer, _Block):
                hidden = torch.cat([hidden, skips.pop()], dim=1)
            hidden = layer(hidden, embedding)
        return F.pixel_shuffle(self.last(F.silu(self.norm(hidden))), self.patch)


class _Block(nn.Module):
    def __init__(self, features: int, width: int, embedding: int, attention: bool):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, features)
        self.conv1 = nn.Conv2d(features, width, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * width)
        self.norm2 = nn.GroupNorm(8, width)
        self.conv2 = _zero(nn.Conv2d(width, width, 3, padding=1))
        self.skip = nn.Conv2d(features, width, 1) if features != width else nn.Identity()
        self.attention = _Attention(width) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden) * (1 + scale) + shift))
        return self.attention(self.skip(x) + hidden)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, width)
        self.query_key_value = nn.Conv2d(width, 3 * width, 1)
        self.mix = _zero(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        # written out, so that it has a forward-mode derivative
        heads = self.query_key_value(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, h * w)
        query, key, value = heads.unbind(1)
        weight = (query.mT @ key * query.shape[-2] ** -0.5).softmax(dim=-1)
        return x + self.mix((value @ weight.mT).reshape(n, c, h, w))


class _Downsample(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.conv(x)


class _Upsample(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0))


class _Context(nn.Module):
    def __init__(self, channels: int, width: int, embedding: int):
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.embed_time = TimeEmbedding(embedding)
        self.gate = _zero(nn.Linear(embedding, width + embedding))

    def forward(self, time: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Context as an addition to the features (N, width, H, W) and to the embedding."""
        gates = self.gate(F.silu(self.embed_time(time)))
        gate, shift = gates.split([self.first.out_channels, self.embed_time.width], dim=-1)
        return gate[:, :, None, None] * self.first(state), shift


def _sequence(name: str, given: Any) -> list[Any]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ValueError(f"{name} must be a sequence, got {checks.shown(given)}")
    return list(given)


def _zero(layer):
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
