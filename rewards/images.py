"""Checks of the images that image rewards take, and their bytes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["check_images", "check_pixels", "image_bytes"]

# rounding may push a pixel this far out of [0, 1]
SLACK = 1e-3


def check_images(images: Any, channels: int | None = None) -> None:
    """Refuse what is not a batch of images (N, C, H, W), gray or RGB.

    Args:
        images: What a reward was given.
        channels: The number C that it needs; 1 or 3 if None.
    """
    wanted = (1, 3) if channels is None else (channels,)
    if (
        isinstance(images, Tensor)
        and images.is_floating_point()
        and images.ndim == 4
        and images.shape[1] in wanted
    ):
        return
    counts = " or ".join(map(str, wanted))
    got = (
        f"{images.dtype} of shape {tuple(images.shape)}"
        if isinstance(images, Tensor)
        else type(images).__name__
    )
    raise ValueError(
        f"it takes float images (N, C, H, W) with {counts} channels, got {got}: "
        "does the policy decode to images?"
    )


def check_pixels(images: Any) -> None:
    """Refuse what is not a batch of images (N, C, H, W) in [0, 1].

    Programs that read images give NaN and clipped pixels a plausible reward.
    """
    check_images(images)
    # NaN fails both comparisons
    if not (images.min() >= -SLACK and images.max() <= 1 + SLACK):
        raise ValueError(
            f"it takes pixels in [0, 1], got {images.min().item():.3g} to "
            f"{images.max().item():.3g}: does the policy decode to images?"
        )


def image_bytes(images: Tensor) -> np.ndarray:
    """Images (N, C, H, W) in [0, 1] as bytes, (N, H, W) if gray and (N, H, W, 3) if RGB."""
    check_pixels(images)
    pixels = (images * 255).round().clamp(0, 255).to("cpu", torch.uint8)
    return pixels.permute(0, 2, 3, 1).numpy() if images.shape[1] == 3 else pixels[:, 0].numpy()
