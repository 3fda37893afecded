"""Training: one loop, what it logs, and what it saves so that it resumes to the same bits."""

from alignflow.interrupts import Interrupted

from .average import ema
from .fit import fit
from .options import TrainingOptions
from .rate import schedule
from .trainer import Trainer, dry_run
from .trains import Trains

__all__ = [
    "Interrupted",
    "Trainer",
    "TrainingOptions",
    "Trains",
    "dry_run",
    "ema",
    "fit",
    "schedule",
]
