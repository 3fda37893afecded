r"""Tesseract: whether another OCR program reads a given text in the image.

.. math:: r(x) = 1[\mathrm{read}(x) = \mathrm{text}]

It shares nothing with the recognizer of `OCR`, so it is the judge of what that reward has done. It
is a program (Debian: `apt install tesseract-ocr`), not a Python package.
"""

import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from alignflow.reward_module import Reward

from .images import image_bytes

__all__ = ["Tesseract", "tesseract_read"]

HEIGHT = 96  # pixels to which an image is enlarged before it is read
MARGIN = 24  # pixels of paper around it
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def tesseract_read(images: Tensor, alphabet: str = ALPHABET, character: bool = True) -> list[str]:
    """What Tesseract reads in images (N, C, H, W) in [0, 1], N texts; "" where it reads nothing.

    Args:
        images: Gray or RGB; an image that is dark at its border is taken as light on dark.
        alphabet: The characters that it may read.
        character: Whether an image holds a single character, or else a word.

    Raises:
        RuntimeError: If the program is not installed or fails.
    """
    program = _program()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.png" for i in range(len(images))]
        for path, pixels in zip(paths, image_bytes(images), strict=True):
            _page(pixels).save(path)
        # a file of names makes one run of the program read all of them, a page each
        names = Path(folder) / "names.txt"
        names.write_text("\n".join(map(str, paths)))
        mode = "10" if character else "8"
        run = subprocess.run(
            [program, names, "stdout", "--psm", mode, "-c", f"tessedit_char_whitelist={alphabet}"],
            capture_output=True,
            text=True,
            env={"OMP_THREAD_LIMIT": "1"},
        )
    pages = run.stdout.split("\f")[:-1]
    if run.returncode or len(pages) != len(images):
        raise RuntimeError(f"tesseract failed ({run.returncode}): {run.stderr.strip()}")
    return [page.strip() for page in pages]


class Tesseract(Reward):
    """Whether Tesseract reads exactly a given text, 0 or 1; a black box of some 50 ms an image.

    Args:
        text: A character or a word.
        alphabet: The characters that it may read.
        name: What errors and reports call it; tesseract_<text> by default.

    Raises:
        ValueError: If the text is empty or not of the alphabet.
        RuntimeError: If the program is not installed.
    """

    def __init__(self, text: str, alphabet: str = ALPHABET, name: str | None = None):
        text = str(text)
        if not text or set(text) - set(alphabet):
            raise ValueError(f"text must be of the characters {alphabet}, got {text!r}")
        _program()
        function = partial(_reads, text=text, alphabet=alphabet)
        super().__init__(function, name or f"tesseract_{text}")


def _reads(images: Tensor, text: str, alphabet: str) -> list[float]:
    read = tesseract_read(images, alphabet, character=len(text) == 1)
    return [float(found == text) for found in read]


def _page(pixels: np.ndarray):
    """Bytes (H, W) or (H, W, 3) as dark print on light paper, enlarged, with a margin."""
    from PIL import Image, ImageOps

    image = Image.fromarray(pixels).convert("L")
    gray = np.asarray(image)
    border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    if np.median(border) < 128:
        image, border = ImageOps.invert(image), 255 - border
    width = max(1, round(image.width * HEIGHT / image.height))
    enlarged = image.resize((width, HEIGHT), Image.Resampling.BICUBIC)
    return ImageOps.expand(enlarged, MARGIN, fill=int(np.median(border)))


def _program() -> str:
    program = shutil.which("tesseract")
    if program is None:
        raise RuntimeError(
            "there is no program `tesseract` on the path: install it "
            "(Debian and Ubuntu: apt install tesseract-ocr)"
        )
    return program
