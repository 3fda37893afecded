r"""Brightness: the mean pixel.

.. math:: r(x) = \frac{1}{CHW} \sum_{c,h,w} x_{chw} \in [0, 1]
"""

from torch import Tensor

from alignflow.reward_module import Reward

from .images import check_images

__all__ = ["Brightness", "brightness"]


def brightness(images: Tensor) -> Tensor:
    """Mean pixel (N,) of images (N, C, H, W) in [0, 1]: 0 is black, 1 is white."""
    check_images(images)
    return images.mean((1, 2, 3))


class Brightness(Reward):
    """The mean pixel, in [0, 1]; differentiable."""

    def __init__(self):
        super().__init__(brightness, differentiable=True)
