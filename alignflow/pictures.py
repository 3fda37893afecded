"""Samples as a PNG: images as a grid, points in the plane as a scatter plot."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["check_path", "save_picture", "tile"]

ENDINGS = (".png", ".jpg", ".jpeg")


def save_picture(path: str | Path, panels: Mapping[str, Any], zoom: int = 4) -> Path:
    """Write samples of one or several models side by side.

    Args:
        path: Of the PNG; its parents are made.
        panels: Title to decoded samples: images (n, C, H, W) in [0, 1], or points (n, 2).
        zoom: Pixels of the picture for a pixel of an image.

    Raises:
        ValueError: If the samples are neither.
    """
    path = Path(path)
    shapes = {tuple(samples.shape[1:]) for samples in panels.values() if torch.is_tensor(samples)}
    if len(shapes) != 1:
        raise ValueError("a picture needs samples that are tensors of one shape")
    (shape,) = shapes
    path.parent.mkdir(parents=True, exist_ok=True)
    if len(shape) == 3 and shape[0] in (1, 3):
        _save_images(path, panels, zoom)
    elif shape == (2,):
        _save_points(path, panels)
    else:
        raise ValueError(
            "a picture shows images (n, 1 or 3, H, W) or points (n, 2), got samples of shape "
            f"{shape}: read them with policy.sample instead"
        )
    return path


def check_path(path: str | Path) -> None:
    """Refuse a path that no picture can be written to, before anything is drawn for it.

    Raises:
        ValueError: If its ending is of no picture, or it is a folder.
        OSError: If it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"a picture must end in {', '.join(ENDINGS)}, got {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"a picture must be a file, and {str(path)!r} is a folder")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise OSError(
            f"{str(path)!r} cannot be written: {above} is no folder that can be written to"
        )


def tile(images: Tensor, gap: int = 1) -> Tensor:
    """Images (n, C, H, W) in [0, 1] as one image, in a grid about as wide as it is high."""
    n, c, h, w = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    grid = images.new_ones(c, rows * (h + gap) - gap, columns * (w + gap) - gap)
    for i, image in enumerate(images):
        top, left = (i // columns) * (h + gap), (i % columns) * (w + gap)
        grid[:, top : top + h, left : left + w] = image
    return grid


def _save_images(path: Path, panels: Mapping[str, Tensor], zoom: int) -> None:
    from PIL import Image

    grids = [tile(images.detach().float().cpu()) for images in panels.values()]
    height = max(grid.shape[1] for grid in grids)
    between = grids[0].new_ones(grids[0].shape[0], height, 4)
    row = []
    for grid in grids:
        below = grid.new_ones(grid.shape[0], height - grid.shape[1], grid.shape[2])
        row += [between, torch.cat([grid, below], dim=1)]
    pixels = (torch.cat(row[1:], dim=2).clamp(0, 1) * 255).round().to(torch.uint8)
    array = np.repeat(np.repeat(pixels.permute(1, 2, 0).numpy(), zoom, 0), zoom, 1)
    Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array).save(path)


def _save_points(path: Path, panels: Mapping[str, Tensor]) -> None:
    # without pyplot: no window system, no state in common with the caller's figures
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(panels), 4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for axis, (title, points) in zip(axes, panels.items(), strict=True):
        axis.scatter(*points.detach().float().cpu().unbind(1), s=4)
        axis.set_title(title)
        axis.set_aspect("equal")
    figure.savefig(path, dpi=120)
