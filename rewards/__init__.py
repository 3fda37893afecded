"""The reward zoo: one reward a file, all maximized, all called on decoded samples.

Differentiable: `Attribute`, `AttributeLogProbability`, `Brightness`, `ClassMixture`, `Color`,
`Similarity`, `Symmetry`. Black boxes: `AttributeIndicator`, `Compressibility`, `OCR`, `Tesseract`.
"""

from .attribute import Attribute, AttributeIndicator, AttributeLogProbability
from .brightness import Brightness
from .class_mixture import ClassMixture
from .classifier import load_classifier
from .color import Color
from .compressibility import Compressibility
from .ocr import OCR
from .similarity import Similarity
from .symmetry import Symmetry
from .tesseract import Tesseract, tesseract_read

__all__ = [
    "OCR",
    "Attribute",
    "AttributeIndicator",
    "AttributeLogProbability",
    "Brightness",
    "ClassMixture",
    "Color",
    "Compressibility",
    "Similarity",
    "Symmetry",
    "Tesseract",
    "load_classifier",
    "tesseract_read",
]
