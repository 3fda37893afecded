"""The reward zoo: one reward a file, all maximized, all called on decoded samples.

Differentiable: `Attribute`, `AttributeLogProbability`, `Brightness`, `ClassMixture`, `Color`,
`Similarity`, `Symmetry`; on soft tokens `LearnedProperty`, `StringClassifier`, `TokenCount`. Black
boxes: `AttributeIndicator`, `Compressibility`, `OCR`, `Tesseract`; of texts `Length`, `Letters`,
`Pattern`, `Prefix`, `Sentiment`; of molecules `LogP`, `MoleculeSimilarity`, `QED`, `Substructure`,
`Synthesizability`; of another reward `AtLeast`.
"""

from .at_least import AtLeast
from .attribute import Attribute, AttributeIndicator, AttributeLogProbability
from .brightness import Brightness
from .class_mixture import ClassMixture
from .classifier import load_classifier
from .color import Color
from .compressibility import Compressibility
from .learned_strings import LearnedProperty, StringClassifier
from .length import Length
from .letters import Letters
from .molecule import MoleculeReward
from .molecule_properties import QED, LogP, Synthesizability
from .molecule_similarity import MoleculeSimilarity
from .ocr import OCR
from .pattern import Pattern
from .prefix import Prefix
from .sentiment import Sentiment
from .similarity import Similarity
from .substructure import Substructure
from .symmetry import Symmetry
from .tesseract import Tesseract, tesseract_read
from .token_count import TokenCount

__all__ = [
    "OCR",
    "QED",
    "AtLeast",
    "Attribute",
    "AttributeIndicator",
    "AttributeLogProbability",
    "Brightness",
    "ClassMixture",
    "Color",
    "Compressibility",
    "LearnedProperty",
    "Length",
    "Letters",
    "LogP",
    "MoleculeReward",
    "MoleculeSimilarity",
    "Pattern",
    "Prefix",
    "Sentiment",
    "Similarity",
    "StringClassifier",
    "Substructure",
    "Symmetry",
    "Synthesizability",
    "Tesseract",
    "TokenCount",
    "load_classifier",
    "tesseract_read",
]
