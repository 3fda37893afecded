"""Images, and a policy that makes them, for the tests of image rewards."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from alignflow.flow_map import FlowMap


class NormalImages(FlowMap):
    """The flow from a standard normal to itself, in closed form, decoded to [0, 1]."""

    def flow_map(self, x, s, t, condition=None):
        return x * ((t**2 + (1 - t) ** 2) / (s**2 + (1 - s) ** 2)) ** 0.5

    def decode(self, x):
        return x.sigmoid()


@pytest.fixture(params=[(3, 16, 16), (1, 28, 28)], ids=["16x16 RGB", "28x28 gray"], scope="session")
def image_policy(request):
    """A policy of avatars' shape, and one of digits' and glyphs' shape."""
    return NormalImages(request.param)


@pytest.fixture(scope="session")
def rgb_policy():
    """A policy of avatars' shape."""
    return NormalImages((3, 16, 16))


@pytest.fixture(scope="session")
def noise_images():
    """Three images (3, C, H, W) of uniform noise for C, H, W."""

    def draw(*shape):
        return torch.rand((3, *shape), generator=torch.Generator().manual_seed(0))

    return draw


@pytest.fixture(scope="session")
def double_images():
    """Images of noise to be differentiated, float64, for N, C, H, W."""

    def draw(*shape):
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(shape, generator=generator, dtype=torch.float64)
        return images.requires_grad_()

    return draw


@pytest.fixture(scope="session")
def glyphs():
    """Characters as gray images (N, 1, 28, 28), dark on light, in Pillow's own font."""

    def draw(characters):
        font = ImageFont.load_default(22)
        pixels = []
        for character in characters:
            page = Image.new("L", (28, 28), 255)
            ImageDraw.Draw(page).text((14, 14), character, font=font, fill=0, anchor="mm")
            pixels.append(np.asarray(page))
        return torch.from_numpy(np.stack(pixels))[:, None].float() / 255

    return draw
