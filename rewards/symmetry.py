r"""Symmetry: how much an image equals its mirror image, left to right.

.. math:: r(x) = -\frac{1}{CHW} \sum_{c,h,w} (x_{c,h,w} - x_{c,h,W-1-w})^2 \in [-1, 0]
"""

from torch import Tensor

from alignflow.reward_module import Reward

from .images import check_images

__all__ = ["Symmetry", "symmetry"]


def symmetry(images: Tensor) -> Tensor:
    """Minus the mean squared left-right difference (N,) of images (N, C, H, W) in [0, 1]."""
    check_images(images)
    return -(images - images.flip(-1)).square().mean((1, 2, 3))


class Symmetry(Reward):
    """Minus the mean squared left-right difference, in [-1, 0]; differentiable."""

    def __init__(self):
        super().__init__(symmetry, differentiable=True)
