"""Avatars: 16 x 16 RGB portraits combined from drawn parts by DiceBear's pixel-art style (CC0).

They are drawings put together by a program, not photographs. Their attributes are known, and so is
the exact effect of a tilt on the rate of each.
An attribute is a part that was drawn; it need not show. Accessories are wholly hidden by other
parts in one case of twenty, and one beard of three changes no color by more than 15 of 255.
"""

import hashlib
import io
import json
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from alignflow import checks

from .drawing import drawn
from .images import Images, cache_folder

__all__ = ["ATTRIBUTES", "avatars", "avatars_sample"]

ATTRIBUTES = ("glasses", "hat", "beard", "accessories", "happy", "long_hair")
SIZE = 16
BACKGROUNDS = ["b6e3f4", "c0aede", "d1d4f9", "ffd5dc", "ffdfbf"]


def avatars(n: int = 60_000, first: int = 0) -> Images:
    """n portraits with their attributes, the same ones every time; drawn once, then cached.

    Args:
        n: Number of portraits; about 0.5 ms each on one core.
        first: Number of the first; portraits of different numbers are drawn independently.

    Returns:
        Images (n, 3, 16, 16) whose labels are 0 or 1 under each name of `ATTRIBUTES`.
    """
    n, first = checks.count("n", n), checks.count("first", first, least=0)
    path = cache_folder() / f"avatars-{_version()}-{first}-{n}.npz"
    return _images(*drawn(path, draw, range(first, first + n), ("pixels", "attributes")))


def avatars_sample() -> Images:
    """The 256 portraits from number 300,000 on, which travel with the library: nothing is drawn."""
    with np.load(Path(__file__).parent / "shipped" / "avatars.npz") as stored:
        return _images(*(torch.from_numpy(stored[name]) for name in ("pixels", "attributes")))


def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
    """One portrait, (3, 16, 16) uint8, and whether it has each attribute, (6,) uint8."""
    import resvg_py
    from dicebear import Avatar
    from PIL import Image

    options = {"seed": f"alignflow-{number}", "size": SIZE, "backgroundColor": BACKGROUNDS}
    avatar = Avatar(_style(), options)
    png = resvg_py.svg_to_bytes(svg_string=avatar.to_string(), skip_system_fonts=True)
    pixels = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB")).transpose(2, 0, 1)
    parts = avatar.to_json()["options"]
    attributes = (
        "glassesVariant" in parts,
        "hatVariant" in parts,
        "beardVariant" in parts,
        "accessoriesVariant" in parts,
        parts["mouthVariant"].startswith("happy"),
        parts.get("hairVariant", "").startswith("long"),
    )
    return pixels, np.array(attributes, dtype=np.uint8)


def _images(pixels: torch.Tensor, attributes: torch.Tensor) -> Images:
    return Images(pixels, dict(zip(ATTRIBUTES, attributes.long().unbind(1), strict=True)))


@cache
def _style():
    from dicebear import Style

    return Style(_definition())


def _definition() -> dict:
    return json.loads(files("dicebear_styles").joinpath("pixel-art.json").read_text("utf-8"))


def _version() -> str:
    """Changes with the drawing, so that a stale cache is never used."""
    return hashlib.sha256(json.dumps(_definition(), sort_keys=True).encode()).hexdigest()[:8]
