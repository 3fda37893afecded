"""Glyphs: A-Z and 0-9 at 28 x 28, black on white, in faces of open fonts that packages ship.

A program for reading text can read them. The fonts: DejaVu and STIX (with matplotlib), Caladea
(Apache-2.0), Lato, Hanken Grotesk and Fredoka One (SIL OFL 1.1). Face, size, slant, turn and place
vary by image.
"""

import hashlib
import math
import string
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from alignflow import checks

from .drawing import drawn
from .images import Images, cache_folder

__all__ = ["CHARACTERS", "glyphs"]

CHARACTERS = string.ascii_uppercase + string.digits
SIZE = 28
_DRAWING = 1  # raise it with any change of `draw`, so that a stale cache is never taken for it
_FINE = 4  # drawn this much larger, then averaged down
_CAP, _WIDEST = 19.0, 23.0  # height of a capital and the widest glyph, in pixels
_FACES = {
    "matplotlib/mpl-data/fonts/ttf": (
        *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono"),
        *("DejaVuSansMono-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
        *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
    ),
    "font_caladea/files": ("Caladea-Regular", "Caladea-Bold", "Caladea-Italic"),
    "font_lato/files": ("Lato-Regular", "Lato-Light", "Lato-Bold", "Lato-Black", "Lato-Italic"),
    "font_hanken_grotesk/files": (
        *("HankenGrotesk-Regular", "HankenGrotesk-Light"),
        *("HankenGrotesk-Bold", "HankenGrotesk-Italic"),
    ),
    "font_fredoka_one/files": ("FredokaOne-Regular",),
}


def glyphs(n: int = 40_000, first: int = 0) -> Images:
    """n characters with their label `character`, an index of `CHARACTERS`; drawn once, then cached.

    Args:
        n: Number of images.
        first: Number of the first; images of different numbers are drawn independently.

    Returns:
        Images (n, 1, 28, 28); a conditional model is given the character.
    """
    n, first = checks.count("n", n), checks.count("first", first, least=0)
    path = cache_folder() / f"glyphs-{_version()}-{first}-{n}.npz"
    pixels, character = drawn(path, draw, range(first, first + n), ("pixels", "character"))
    return Images(pixels, {"character": character.long()}, condition="character")


def draw(number: int) -> tuple[np.ndarray, np.integer]:
    """One image, (1, 28, 28) uint8, and its character's index."""
    from PIL import Image, ImageDraw, ImageFont

    random = np.random.default_rng([_DRAWING, number])
    character = random.integers(len(CHARACTERS), dtype=np.uint8)
    face = random.integers(len(_fonts()))
    size = random.uniform(0.88, 1.08)
    slant, turn = random.uniform(-0.12, 0.12), math.radians(random.uniform(-5, 5))
    right, down = _FINE * random.uniform(-2, 2, size=2)

    font = ImageFont.truetype(_fonts()[face], _point_size(face, character) * size)
    left, top, end, bottom = font.getbbox(CHARACTERS[character])
    side = SIZE * _FINE
    image = Image.new("L", (side, side), 255)
    corner = ((side - left - end) / 2, (side - top - bottom) / 2)
    ImageDraw.Draw(image).text(corner, CHARACTERS[character], fill=0, font=font)
    # where each pixel of the result comes from, about the middle
    cos, sin = math.cos(turn), math.sin(turn)
    a, b, c, d = cos, slant * cos + sin, -sin, cos - slant * sin
    x, y = side / 2 + right, side / 2 + down
    origin = (side / 2 - a * x - b * y, side / 2 - c * x - d * y)
    image = image.transform(
        image.size,
        Image.Transform.AFFINE,
        (a, b, origin[0], c, d, origin[1]),
        Image.Resampling.BILINEAR,
        fillcolor=255,
    )
    return np.asarray(image.reduce(_FINE))[None], character


@cache
def _fonts() -> tuple[Path, ...]:
    """The font files.

    Raises:
        ImportError: If a package that ships one is missing.
    """
    paths = []
    for folder, names in _FACES.items():
        package, _, inside = folder.partition("/")
        for name in names:
            found = [p for p in (files(package) / inside).iterdir() if Path(p.name).stem == name]
            if not found:
                raise ImportError(f"the package {package} ships no font {name}: install it anew")
            paths.append(Path(str(found[0])))
    return tuple(paths)


@cache
def _point_size(face: int, character: int) -> float:
    """Font size at which capitals are as high as they should be, and this glyph not too wide."""
    from PIL import ImageFont

    font = ImageFont.truetype(_fonts()[face], 100)
    _, top, _, bottom = font.getbbox("H")
    left, _, right, _ = font.getbbox(CHARACTERS[character])
    return 100 * _FINE * min(_CAP / (bottom - top), _WIDEST / (right - left))


def _version() -> str:
    content = hashlib.sha256(str(_DRAWING).encode())
    for path in _fonts():
        content.update(path.read_bytes())
    return content.hexdigest()[:8]
