r"""OCR: the probability that a text recognizer reads a given text in the image.

.. math:: r(x) = \sum_{\pi \to \text{text}} \prod_\tau p_\tau(\pi_\tau \mid x) \in [0, 1]

The sum runs over the alignments of the text to the recognizer's places (connectionist temporal
classification). The recognizer is PP-OCRv4, whose weights travel in the PyPI package
`rapidocr-onnxruntime`; of that package only the file of weights is used, none of its code.
"""

from collections.abc import Iterator
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from alignflow.reward_module import Reward

from .images import check_pixels
from .labels import check_text

__all__ = ["OCR", "ocr_probability"]

PACKAGE = "rapidocr_onnxruntime"
WEIGHTS = "ch_PP-OCRv4_rec_infer.onnx"
HEIGHT = 48  # pixels, of the recognizer's input
PLACE = 8  # pixels of width for each place at which it reads a character
CHUNK = 32  # images at a time; 256 take twice as long each


def ocr_probability(images: Tensor, text: str) -> Tensor:
    """Probability (N,) of reading the text in images (N, C, H, W) in [0, 1], gray or RGB.

    An image is scaled to 48 pixels of height, and its whole width is one line of text. Dark on
    light and light on dark are read alike; what only context tells apart (O and 0, I and l) is not
    told apart in a single character.

    Raises:
        ValueError: If the images are too narrow for the text.
        ImportError: If the recognizer is not installed.
    """
    check_pixels(images)
    alphabet = _recognizer()[1]
    target = torch.tensor([alphabet[character] for character in text])
    return torch.cat([_probability(chunk, target) for chunk in _places(images)]).to(images.device)


class OCR(Reward):
    """Probability that a text recognizer reads a given text, in [0, 1]; a black box.

    Args:
        text: What should be read, exactly; upper and lower case differ.
        name: What errors and reports call it; ocr_<text> by default.

    Raises:
        ValueError: If the text is empty or has a character that the recognizer does not know.
        ImportError: If the recognizer is not installed.
    """

    def __init__(self, text: str, name: str | None = None):
        text = check_text(text)
        unknown = sorted(set(text) - set(_recognizer()[1]))
        if not text or unknown:
            raise ValueError(
                f"text must be of characters that the recognizer knows, got {text!r}"
                + (f" with {', '.join(map(repr, unknown))}" if unknown else "")
            )
        super().__init__(partial(ocr_probability, text=text), name or f"ocr_{text}")


def _places(images: Tensor) -> Iterator[Tensor]:
    """Log-probabilities (T, n, characters) at the T places of images, a chunk at a time."""
    session = _recognizer()[0]
    (given,) = session.get_inputs()
    width = max(PLACE, round(images.shape[-1] * HEIGHT / images.shape[-2]))
    for chunk in images.detach().float().cpu().split(CHUNK):
        lines = F.interpolate(chunk, (HEIGHT, width), mode="bilinear", antialias=True)
        # the recognizer was trained on channels in the order blue, green, red, in [-1, 1]
        lines = (2 * lines - 1).flip(1).expand(-1, 3, -1, -1)
        (probabilities,) = session.run(None, {given.name: lines.numpy()})
        yield torch.from_numpy(probabilities).log().transpose(0, 1)


def _probability(places: Tensor, target: Tensor) -> Tensor:
    length, n, _ = places.shape
    repeats = int((target[1:] == target[:-1]).sum())
    if len(target) + repeats > length:
        raise ValueError(
            f"its text of {len(target)} characters needs {len(target) + repeats} places, "
            f"but these images are so narrow that they have {length}"
        )
    lengths = torch.full((n,), length), torch.full((n,), len(target))
    return (-F.ctc_loss(places, target.expand(n, -1), *lengths, reduction="none")).exp()


@cache
def _recognizer():
    """The ONNX session, and the number of each character in its answer (0 is the blank)."""
    package = find_spec(PACKAGE)
    if package is None or package.origin is None or find_spec("onnxruntime") is None:
        raise ImportError("the OCR reward needs a recognizer: pip install 'alignflow[ocr]'")
    import onnxruntime

    weights = Path(package.origin).parent / "models" / WEIGHTS
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    characters = session.get_modelmeta().custom_metadata_map["character"].splitlines()
    return session, {character: i for i, character in enumerate([*characters, " "], start=1)}
