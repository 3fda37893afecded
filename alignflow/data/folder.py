"""A folder of images as a data set."""

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alignflow import checks

from .images import Images

__all__ = ["eight_bit", "image_folder"]

_ENDINGS = (".png", ".jpg", ".jpeg")
_MODES = {1: "L", 3: "RGB"}


def image_folder(path: str | Path, size: int, channels: int = 3) -> Images:
    """PNG and JPEG files, cropped to their middle square and resized.

    If they lie in subfolders, each of these is a class: the label `class` numbers them in
    alphabetical order, and a conditional model is given it. Files with other endings and hidden
    files are passed over.

    Args:
        path: The folder.
        size: Height and width of the images.
        channels: 3 for color, 1 for grayscale.

    Returns:
        Images (n, channels, size, size), in alphabetical order; transparency becomes white.

    Raises:
        ValueError: If the folder is missing or holds no images, mixes images with subfolders of
            images, or a file cannot be read as an image; the message names it.
    """
    if not isinstance(path, str | PathLike):
        raise ValueError(f"path must be that of a folder, got {checks.shown(path)}")
    folder = Path(path).expanduser()
    channels = checks.count("channels", channels)
    if channels not in _MODES:
        raise ValueError(f"channels must be 1 or 3, got {channels!r}")
    size = checks.count("size", size)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    loose = _files_in(folder)
    classes = [f for f in sorted(folder.iterdir()) if f.is_dir() and not f.name.startswith(".")]
    of_class = [found for found in map(_files_in, classes) if found]
    if loose and of_class:
        raise ValueError(
            f"{folder} holds images ({loose[0].name}, ...) beside folders of images "
            f"({of_class[0][0].parent.name}, ...): put each image in the folder of its class, or "
            "all of them into one"
        )
    if not loose and not of_class:
        raise ValueError(f"the folder {folder} holds no images ({', '.join(_ENDINGS)})")
    paths = loose or [file for found in of_class for file in found]
    pixels = torch.from_numpy(np.stack([_read(file, size, channels) for file in paths]))
    if loose:
        return Images(pixels)
    counts = torch.tensor([len(found) for found in of_class])
    label = torch.repeat_interleave(torch.arange(len(of_class)), counts)
    return Images(pixels, {"class": label}, condition="class")


def eight_bit(image: Any) -> Any:
    """A PIL image of 16-bit gray as one of bytes, which Pillow itself would clip to white."""
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    deep = np.asarray(image).astype(np.float64)
    return Image.fromarray((deep / 257).round().clip(0, 255).astype(np.uint8))


def _files_in(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and file.suffix.lower() in _ENDINGS and not file.name.startswith(".")
    )


def _read(file: Path, size: int, channels: int) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            image = eight_bit(ImageOps.exif_transpose(opened))  # as its camera was held
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = ImageOps.fit(image.convert(_MODES[channels]), (size, size))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from error
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)
