"""Training: one loop, what it logs, and what it saves so that it resumes to the same bits."""

from alignflow.interrupts import Interrupted

from .fit import fit
from .options import TrainingOptions
from .trainer import Trainer, ema, rehearsal, schedule

__all__ = ["Interrupted", "Trainer", "TrainingOptions", "ema", "fit", "rehearsal", "schedule"]
