"""Training: one loop, what it logs, and what it saves so that it resumes to the same bits."""

from alignflow.interrupts import Interrupted

from .average import ema
from .fit import fit
from .muon import Muon
from .options import TrainingOptions
from .rate import schedule
from .trainer import Trainer
from .trains import Training, Trains

__all__ = [
    "Interrupted",
    "Muon",
    "Trainer",
    "Training",
    "TrainingOptions",
    "Trains",
    "ema",
    "fit",
    "schedule",
]
