"""Portraits: a tuning for every strength, and tunings for one, stored under outputs.

    python scripts/bench/every_strength_avatars.py

makes the tunings, whose page `every_strength.py` writes. One that was made is not made again:
delete outputs/every_strength after a change of the model.
"""

from pathlib import Path
from typing import Any

import torch
from tuning_avatars import tuned

import alignflow as af
from alignflow.data import avatars
from alignflow.rewards import Attribute

FOLDER = Path("outputs/every_strength")
STEPS, BATCH = 300, 32  # steps of all tunings of a row together
DATA, POOL = 20_000, 4096  # portraits, and candidates that are drawn from them, once
STRENGTHS = (1.0, 2.0, 4.0)
LOWER, UPPER = 0.0, 4.0


def tuning(policy: Any, strength: Any, steps: int) -> tuple[Any, float]:
    """A policy tuned towards glasses for one strength or a range, and the minutes it took."""
    name = "-".join(
        f"{each:g}" for each in (strength if isinstance(strength, tuple) else [strength])
    )
    settings = {
        "method": "weighted",
        "steps": steps,
        "batch_size": BATCH,
        "data": avatars(DATA),
        "pool": POOL,
        "refresh_every": 10**6,
    }
    folder = FOLDER / f"glasses-{name}-{steps}"
    model, cost = tuned(policy, Attribute("glasses"), strength, settings, folder)
    return model, cost["minutes"]


def tunings(policy: Any) -> dict[str, Any]:
    """Of each row, the tuned policy, or that of each strength, with the minutes of it."""
    each = {strength: tuning(policy, strength, STEPS // len(STRENGTHS)) for strength in STRENGTHS}
    return {
        "all strengths": tuning(policy, (LOWER, UPPER), STEPS),
        "largest strength": tuning(policy, UPPER, STEPS),
        "each strength": each,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    tunings(af.load("avatars"))
