"""The learning rate over a run."""

__all__ = ["schedule"]


def schedule(step: int, steps: int, warmup: int = 100, decay: float = 0.2) -> float:
    """Factor of the learning rate: linear warm-up, constant, and a linear fall to 0 at the end.

    Args:
        step: From 0.
        steps: Length of the run.
        warmup: Steps of the rise, at most a tenth of the run; 0 begins at the peak.
        decay: Fraction of the run that falls.
    """
    warmup = max(min(warmup, steps // 10), 1)
    rise = min(1.0, (step + 1) / warmup)
    fall = min(1.0, (steps - step) / max(decay * steps, 1))
    return rise * fall
