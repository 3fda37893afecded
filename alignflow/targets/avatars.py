"""Avatars: 16 x 16 RGB portraits combined from drawn parts by DiceBear's pixel-art style (CC0).

They are drawings put together by a program, not photographs. What makes them a good subject for
alignment is that their attributes are known, and so the exact effect of a tilt on each rate is.
"""

import hashlib
import io
import json
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.resources import files

import numpy as np
import torch

from .images import Images, cache_folder

__all__ = ["ATTRIBUTES", "avatars"]

ATTRIBUTES = ("glasses", "hat", "beard", "accessories", "happy", "long_hair")
SIZE = 16
BACKGROUNDS = ["b6e3f4", "c0aede", "d1d4f9", "ffd5dc", "ffdfbf"]
_CHUNK = 500


def avatars(n: int = 60_000, first: int = 0) -> Images:
    """n portraits with their attributes, the same ones every time; drawn once, then cached.

    Args:
        n: Number of portraits; about 0.5 ms each on one core.
        first: Number of the first; portraits of different numbers are drawn independently.

    Returns:
        Images (n, 3, 16, 16) whose labels are 0 or 1 under each name of `ATTRIBUTES`.
    """
    path = cache_folder() / f"avatars-{_version()}-{first}-{n}.npz"
    if not path.exists():
        _draw(first, n, path)
    with np.load(path) as stored:
        pixels = torch.from_numpy(stored["pixels"])
        attributes = torch.from_numpy(stored["attributes"]).long()
    return Images(pixels, dict(zip(ATTRIBUTES, attributes.unbind(1), strict=True)))


def draw(number: int) -> tuple[np.ndarray, list[bool]]:
    """One portrait, (3, 16, 16) uint8, and whether it has each attribute."""
    import resvg_py
    from dicebear import Avatar
    from PIL import Image

    options = {"seed": f"alignflow-{number}", "size": SIZE, "backgroundColor": BACKGROUNDS}
    avatar = Avatar(_style(), options)
    png = resvg_py.svg_to_bytes(svg_string=avatar.to_string(), skip_system_fonts=True)
    pixels = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB")).transpose(2, 0, 1)
    parts = avatar.to_json()["options"]
    return pixels, [
        "glassesVariant" in parts,
        "hatVariant" in parts,
        "beardVariant" in parts,
        "accessoriesVariant" in parts,
        parts["mouthVariant"].startswith("happy"),
        parts.get("hairVariant", "").startswith("long"),
    ]


@cache
def _style():
    from dicebear import Style

    return Style(_definition())


def _definition() -> dict:
    return json.loads(files("dicebear_styles").joinpath("pixel-art.json").read_text("utf-8"))


def _version() -> str:
    """Changes when the style's drawing does, so that a stale cache is never taken for it."""
    return hashlib.sha256(json.dumps(_definition(), sort_keys=True).encode()).hexdigest()[:8]


def _draw(first: int, n: int, path) -> None:
    from rich.progress import track

    with ProcessPoolExecutor() as pool:
        drawn = list(
            track(
                pool.map(draw, range(first, first + n), chunksize=min(_CHUNK, n)),
                description=f"drawing {n} avatars",
                total=n,
            )
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    with temporary.open("wb") as file:
        np.savez_compressed(
            file,
            pixels=np.stack([pixels for pixels, _ in drawn]),
            attributes=np.array([attributes for _, attributes in drawn], dtype=np.uint8),
        )
    temporary.replace(path)
