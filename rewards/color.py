r"""Color: how near an image's mean color is to a given one.

.. math:: r(x) = -\frac{1}{3} \sum_c (\bar{x}_c - \mathrm{rgb}_c)^2 \in [-1, 0]
"""

from collections.abc import Iterable, Sequence
from functools import partial

from torch import Tensor

from alignflow import checks
from alignflow.reward_module import Reward

from .images import check_images

__all__ = ["Color", "color"]


def color(images: Tensor, rgb: Sequence[float]) -> Tensor:
    """Minus the mean squared distance (N,) of the mean color of images (N, 3, H, W) to rgb."""
    check_images(images, channels=3)
    return -(images.mean((2, 3)) - images.new_tensor(rgb)).square().mean(1)


class Color(Reward):
    """Minus the mean squared distance of the mean color to a given one, in [-1, 0]; differentiable.

    Args:
        rgb: Red, green and blue, each in [0, 1].
        name: What errors and reports call it.
    """

    def __init__(self, rgb: Sequence[float], name: str = "color"):
        if isinstance(rgb, str) or not isinstance(rgb, Iterable):
            raise ValueError(f"rgb must be three numbers in [0, 1], got {checks.shown(rgb)}")
        rgb = tuple(checks.fraction("each part of rgb", part) for part in rgb)
        if len(rgb) != 3:
            raise ValueError(f"rgb must be three numbers in [0, 1], got {rgb}")
        super().__init__(partial(color, rgb=rgb), name, differentiable=True)
