"""Data sets: images that are drawn, shipped or in a folder, and batches of any data."""

from .augmentation import AugmentedImages, deform
from .avatars import ATTRIBUTES, avatars, avatars_sample
from .batches import batches
from .digits import DIGIT_SPLITS, digits
from .folder import eight_bit, image_folder
from .glyphs import CHARACTERS, glyphs
from .images import Images, cache_folder
from .loader import Loader, memory_mapped

__all__ = [
    "ATTRIBUTES",
    "CHARACTERS",
    "DIGIT_SPLITS",
    "AugmentedImages",
    "Images",
    "Loader",
    "avatars",
    "avatars_sample",
    "batches",
    "cache_folder",
    "deform",
    "digits",
    "eight_bit",
    "glyphs",
    "image_folder",
    "memory_mapped",
]
