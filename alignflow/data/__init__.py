"""Data sets of images: drawn, shipped, or a folder of one's own."""

from .augmentation import AugmentedImages, deform
from .avatars import ATTRIBUTES, avatars, avatars_sample
from .digits import DIGIT_SPLITS, digits
from .folder import eight_bit, image_folder
from .glyphs import CHARACTERS, glyphs
from .images import Images, cache_folder

__all__ = [
    "ATTRIBUTES",
    "CHARACTERS",
    "DIGIT_SPLITS",
    "AugmentedImages",
    "Images",
    "avatars",
    "avatars_sample",
    "cache_folder",
    "deform",
    "digits",
    "eight_bit",
    "glyphs",
    "image_folder",
]
