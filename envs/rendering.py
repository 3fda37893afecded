"""A state as a picture: an image as it is, points in the plane among samples of the policy."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .process import DenoisingProcess

__all__ = ["picture"]

SIZE = 256  # pixels, at least
CROWD = 400
PAPER, GRAY, INK = 255, 190, (200, 60, 30)


@torch.no_grad()
def picture(process: DenoisingProcess, state: Tensor) -> np.ndarray:
    """RGB (H, W, 3) of a state (1, *E), uint8.

    Raises:
        NotImplementedError: If states are neither images nor points in the plane.
    """
    shown: Any = process.policy.decode(state)
    if isinstance(shown, Tensor) and shown.ndim == 4 and shown.shape[1] in (1, 3):
        pixels = (shown[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        scale = -(-SIZE // pixels.shape[-1])
        rgb = pixels.expand(3, *pixels.shape[1:]).permute(1, 2, 0).numpy()
        return rgb.repeat(scale, axis=0).repeat(scale, axis=1)
    if state.shape[1:] == (2,):
        return _points(process, state)
    raise NotImplementedError(
        "only images and points in the plane can be rendered, "
        f"got states of shape {tuple(state.shape[1:])}"
    )


def _points(process: DenoisingProcess, state: Tensor) -> np.ndarray:
    crowd = process.policy.sample(CROWD, 4, generator=torch.Generator().manual_seed(0)).cpu()
    reach = 1.2 * crowd.abs().max().item()
    canvas = np.full((SIZE, SIZE, 3), PAPER, dtype=np.uint8)
    for points, radius, color in ((crowd, 1, (GRAY,) * 3), (state.cpu(), 4, INK)):
        place = (points.float() / reach).clamp(-1, 1)
        columns = ((place[:, 0] + 1) / 2 * (SIZE - 1)).round().int().tolist()
        rows = ((1 - place[:, 1]) / 2 * (SIZE - 1)).round().int().tolist()
        for row, column in zip(rows, columns, strict=True):
            top, left = max(row - radius, 0), max(column - radius, 0)
            canvas[top : row + radius + 1, left : column + radius + 1] = color
    return canvas
