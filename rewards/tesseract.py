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
from .labels import check_text

__all__ = ["Tesseract", "tesseract_read"]

HEIGHT = 64  # pixels to which an image is enlarged before it is read
MARGIN = 16  # pixels of paper around it
LAYOUTS = {"character": "10", "word": "8"}  # Tesseract's page segmentation modes
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def tesseract_read(
    images: Tensor, alphabet: str = ALPHABET, content: str = "character"
) -> list[str]:
    """What Tesseract reads in images (N, C, H, W) in [0, 1], N texts; "" where it reads nothing.

    Args:
        images: Gray or RGB; an image that is dark at its border is taken as light on dark.
        alphabet: The characters that it may read.
        content: What an image holds: a "character" or a "word".

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
        run = subprocess.run(
            [program, names, "stdout", *_options(alphabet, content)],
            capture_output=True,
            text=True,
        )
    if run.returncode:
        raise RuntimeError(f"tesseract failed ({run.returncode}): {run.stderr.strip()[-300:]}")
    return _words(run.stdout, len(images))


class Tesseract(Reward):
    """Whether Tesseract reads exactly a given text, 0 or 1; a black box of some 30 ms an image.

    Args:
        text: A character or a word.
        alphabet: The characters that it may read.
        name: What errors and reports call it; tesseract_<text> by default.

    Raises:
        ValueError: If the text is empty or not of the alphabet.
        RuntimeError: If the program is not installed.
    """

    def __init__(self, text: str, alphabet: str = ALPHABET, name: str | None = None):
        text = check_text(text)
        if not text or set(text) - set(alphabet):
            raise ValueError(f"text must be of the characters {alphabet}, got {text!r}")
        _program()
        function = partial(_reads, text=text, alphabet=alphabet)
        super().__init__(function, name or f"tesseract_{text}")


def _reads(images: Tensor, text: str, alphabet: str) -> list[float]:
    read = tesseract_read(images, alphabet, "character" if len(text) == 1 else "word")
    return [float(found == text) for found in read]


def _options(alphabet: str, content: str) -> list[str]:
    if content not in LAYOUTS:
        raise ValueError(f"content must be one of {', '.join(LAYOUTS)}, got {content!r}")
    allowed = f"tessedit_char_whitelist={alphabet}"
    return ["--psm", LAYOUTS[content], "-c", allowed, "-c", "tessedit_create_tsv=1"]


def _words(table: str, n: int) -> list[str]:
    """The words of n pages, joined, from Tesseract's tab-separated table of what it found."""
    words = [""] * n
    header, *rows = (line.split("\t") for line in table.splitlines())
    page, text = header.index("page_num"), header.index("text")
    for row in rows:
        # only rows of words have a text
        if len(row) > text:
            words[int(row[page]) - 1] += row[text].strip()
    return words


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
