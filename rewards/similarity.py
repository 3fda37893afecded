r"""Similarity to a given image y.

.. math:: r(x) = -\frac{1}{CHW} \sum_{c,h,w} (x_{chw} - y_{chw})^2 \in [-1, 0]
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alignflow import checks
from alignflow.data import eight_bit
from alignflow.reward_module import Reward

from .images import check_images

__all__ = ["Similarity", "read_image", "similarity"]


def similarity(images: Tensor, image: Tensor) -> Tensor:
    """Minus the mean squared difference (N,) of images (N, C, H, W) to an image (C, H, W)."""
    check_images(images)
    if images.shape[1:] != image.shape:
        raise ValueError(
            f"it compares with an image of shape {tuple(image.shape)}, "
            f"got images {tuple(images.shape)}"
        )
    return -(images - image.to(images)).square().mean((1, 2, 3))


class Similarity(Reward):
    """Minus the mean squared difference to a given image, in [-1, 0]; differentiable.

    Args:
        image: (C, H, W) in [0, 1], or the path of an image file; of the samples' size.
        name: What errors and reports call it.
    """

    def __init__(self, image: Tensor | str | Path, name: str = "similarity"):
        is_path = isinstance(image, str | Path)
        image = read_image(image) if is_path else checks.as_tensor("image", image)
        if image.ndim != 3:
            raise ValueError(f"image must be of shape (C, H, W), got {tuple(image.shape)}")
        check_images(image[None])
        if not torch.isfinite(image).all():
            raise ValueError("image must be finite, got NaN or infinity among its pixels")
        super().__init__(partial(similarity, image=image), name, differentiable=True)


def read_image(path: str | Path) -> Tensor:
    """An image file as (C, H, W) in [0, 1], gray if the file is; transparency lies on white."""
    from PIL import Image

    with Image.open(path) as opened:
        file = eight_bit(opened)
        if file.mode in ("1", "L"):
            return torch.from_numpy(np.array(file.convert("L"))).float()[None] / 255
        opaque = Image.new("RGBA", file.size, "white")
        opaque.alpha_composite(file.convert("RGBA"))
    pixels = torch.from_numpy(np.array(opaque.convert("RGB")))
    return pixels.permute(2, 0, 1).float() / 255
