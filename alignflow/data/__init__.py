"""Data sets: images and strings that are drawn, shipped or in a file, and batches of any data."""

from .augmentation import AugmentedImages, deform
from .avatars import ATTRIBUTES, avatars, avatars_sample
from .batches import batches, token_batches
from .bpe_vocabulary import BPEVocabulary
from .digits import DIGIT_SPLITS, digits
from .folder import eight_bit, image_folder
from .fragments import fragments
from .glyphs import CHARACTERS, glyphs
from .images import Images, cache_folder
from .infilling import Infilling
from .loader import Loader, memory_mapped
from .molecules import MOLECULE_SPLITS, molecules
from .names import names
from .selfies_vocabulary import SelfiesVocabulary, Smiles
from .sentences import SENTENCE_SPLITS, sentences
from .strings import Strings
from .text_file import text_file
from .vocabulary import Vocabulary

__all__ = [
    "ATTRIBUTES",
    "CHARACTERS",
    "DIGIT_SPLITS",
    "MOLECULE_SPLITS",
    "SENTENCE_SPLITS",
    "AugmentedImages",
    "BPEVocabulary",
    "Images",
    "Infilling",
    "Loader",
    "SelfiesVocabulary",
    "Smiles",
    "Strings",
    "Vocabulary",
    "avatars",
    "avatars_sample",
    "batches",
    "token_batches",
    "cache_folder",
    "deform",
    "digits",
    "eight_bit",
    "fragments",
    "glyphs",
    "image_folder",
    "memory_mapped",
    "molecules",
    "names",
    "sentences",
    "text_file",
]
