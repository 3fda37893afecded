"""Affine and elastic deformation: more handwriting from the same images, drawn at each use."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from tensordict import TensorDict
from torch import Tensor

from alignflow import checks
from alignflow.draws import normal, uniform

from .images import Images

__all__ = ["AugmentedImages", "deform"]

_KNOTS = (5, 5)  # of the displacement field: smooth over about a stroke's length


@dataclass(frozen=True)
class AugmentedImages(Images):
    """Images whose `sample` draws deformed copies; `states` gives them as they are.

    Args:
        augment: A callable (states, generator) -> deformed states.
    """

    augment: Callable[[Tensor, torch.Generator | None], Tensor] = field(kw_only=True)

    def sample(self, n: int, generator: torch.Generator | None = None) -> TensorDict:
        batch = super().sample(n, generator)
        return batch.set("data", self.augment(batch["data"], generator))


def deform(
    images: Tensor,
    generator: torch.Generator | None = None,
    rotation: float = 10.0,
    scale: float = 0.1,
    shear: float = 0.15,
    shift: float = 1.5,
    elastic: float = 0.5,
) -> Tensor:
    """Each image under a random affine map and a smooth displacement field.

    Args:
        images: (N, C, H, W); beyond the border they have the border's value.
        generator: Source of the deformations.
        rotation: Largest angle, in degrees.
        scale: Largest relative change of size.
        shear: Largest horizontal shear, as a tangent.
        shift: Largest move along either axis, in pixels.
        elastic: Standard deviation of the displacement field at its knots, in pixels.

    Returns:
        (N, C, H, W), interpolated bilinearly.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be floats (N, C, H, W), got {checks.shown(images)}")
    for name, value in (("rotation", rotation), ("scale", scale), ("shear", shear)):
        checks.nonnegative(name, value)
    shift, elastic = checks.nonnegative("shift", shift), checks.nonnegative("elastic", elastic)
    generator = checks.as_generator(generator)
    n, _, height, width = images.shape
    signed = 2 * uniform((n, 5), generator, torch.float32, images.device) - 1
    noise = normal((n, 2, *_KNOTS), generator, torch.float32, images.device)
    angle, size, tilt = (
        signed[:, :3] * signed.new_tensor([math.radians(rotation), scale, shear])
    ).T
    pixel = signed.new_tensor([2 / width, 2 / height])  # in the units of grid_sample, -1 to 1
    cos, sin = angle.cos() / (1 + size), angle.sin() / (1 + size)
    rows = [torch.stack([cos, tilt * cos - sin], 1), torch.stack([sin, tilt * sin + cos], 1)]
    move = (shift * signed[:, 3:] * pixel)[:, :, None]
    grid = F.affine_grid(
        torch.cat([torch.stack(rows, 1), move], dim=2), list(images.shape), align_corners=False
    )
    field = F.interpolate(elastic * noise, (height, width), mode="bicubic", align_corners=True)
    grid = grid + field.permute(0, 2, 3, 1) * pixel
    return F.grid_sample(images, grid.to(images), padding_mode="border", align_corners=False)
