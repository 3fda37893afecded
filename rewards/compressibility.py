r"""Compressibility: how few bytes an image file takes.

.. math:: r(x) = -\,\mathrm{bytes}(x) / 1000

The bytes are those of a real JPEG or PNG file, headers included (some 600 bytes of a JPEG in
color). Its opposite, incompressibility, is this with a weight of -1 in a `Sum`.
"""

import io
from functools import partial

import numpy as np
from torch import Tensor

from alignflow import checks
from alignflow.reward_module import Reward

from .images import image_bytes

__all__ = ["Compressibility", "compressibility"]

FORMATS = ("jpeg", "png")


def compressibility(images: Tensor, format: str = "jpeg", **options) -> list[float]:
    """Minus the size in kB, N numbers, of images (N, C, H, W) in [0, 1] as files."""
    return [-_file_size(pixels, format, options) / 1000 for pixels in image_bytes(images)]


class Compressibility(Reward):
    """Minus the size of the image file in kB (1000 bytes), below 0; a black box.

    Args:
        format: "jpeg" or "png".
        quality: Of a JPEG, 1 to 95; 80 if None. A PNG has none.
        name: What errors and reports call it; the format by default.
    """

    def __init__(self, format: str = "jpeg", quality: int | None = None, name: str | None = None):
        checks.choice("format", format, FORMATS)
        if format == "png" and quality is not None:
            raise ValueError(f"a PNG has no quality, got quality={quality}")
        quality = checks.count("quality", 80 if quality is None else quality, most=95)
        options = {"quality": quality} if format == "jpeg" else {}
        super().__init__(partial(compressibility, format=format, **options), name or format)


def _file_size(pixels: np.ndarray, format: str, options: dict) -> int:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.tell()
