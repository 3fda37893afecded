"""Training: one loop, what it logs, and what it keeps so that it resumes to the same bits."""

from alignflow.interrupts import Interrupted

from .trainer import TRAINER_OPTIONS, Trainer, check_has_network, ema, rehearsal, schedule

__all__ = [
    "TRAINER_OPTIONS",
    "Interrupted",
    "Trainer",
    "check_has_network",
    "ema",
    "rehearsal",
    "schedule",
]
