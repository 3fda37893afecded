"""What is learned and what is known: data sets, and distributions in closed form."""

from .augmentation import AugmentedImages, deform
from .avatars import ATTRIBUTES, avatars, avatars_sample
from .digits import DIGIT_SPLITS, digits
from .folder import image_folder
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
    "glyphs",
    "image_folder",
]
