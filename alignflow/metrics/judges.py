"""Judges of samples: their answers, checked, and the names of these metrics."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from alignflow import checks

__all__ = ["MEASURES", "check_judges", "judged"]

MEASURES = {
    "samples", "reward", "diversity", "sliced_w2", "mmd", "energy_distance", "frechet_distance",
    "verdict", "tilt_reward", "base_reward", "tilt_mmd", "tilt_ess", "tilt_progress", "particle_ess"
}  # fmt: skip
"""Names that no judge may have."""


def check_judges(judges: Any) -> dict[str, Any]:
    """Judges by name.

    Raises:
        ValueError: If they are none, or one has the name of another measure.
    """
    if not isinstance(judges, Mapping | None):
        raise ValueError(f"judges must be a mapping, {{name: judge}}, got {checks.shown(judges)}")
    for name, judge in (judges or {}).items():
        if not callable(judge):
            raise ValueError(f"judge {name!r} must be callable, got {checks.shown(judge)}")
        if name in MEASURES:
            raise ValueError(_in_use(name, name))
    return dict(judges or {})


def judged(
    name: str, judge: Any, parts: Iterable[tuple[Any, int]], before: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A judge's answers (N,), by column.

    Args:
        name: Of the judge.
        judge: From decoded samples to (n,) or (n, A) numbers.
        parts: Decoded samples, so many at a time, and how many these are.
        before: What was measured before, whose names it may not use.

    Raises:
        ValueError: If it does not answer with finite numbers, or a name is in use.
    """
    verdicts = torch.cat([_verdict(name, judge(part), n) for part, n in parts])
    columns = _columns(name, judge, verdicts)
    for column in columns:
        if column in before or column in MEASURES:
            raise ValueError(_in_use(name, column))
    return columns


def _in_use(judge: str, column: str) -> str:
    return f"judge {judge!r} would replace the measure {column!r}: give it another name"


def _verdict(name: str, answer: Any, n: int) -> Tensor:
    """What a judge answered for n samples, (n,) or (n, A), refused unless it is finite."""
    try:
        verdict = torch.as_tensor(answer)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"judge {name!r} must answer with numbers, got {checks.shown(answer)}"
        ) from error
    if verdict.ndim not in (1, 2) or len(verdict) != n or verdict.is_complex():
        raise ValueError(
            f"judge {name!r} must answer {n} samples with numbers ({n},) or ({n}, A), "
            f"got {checks.shown(verdict)}"
        )
    invalid = (~torch.isfinite(verdict)).reshape(n, -1).any(1).nonzero().flatten().tolist()
    if invalid:
        raise ValueError(f"judge {name!r} is NaN or infinite for {len(invalid)} of {n} samples")
    return verdict


def _columns(name: str, judge, verdicts: Tensor) -> dict[str, Tensor]:
    if verdicts.ndim == 1:
        return {name: verdicts}
    titles = getattr(judge, "names", getattr(judge, "labels", range(verdicts.shape[1])))
    if len(titles) != verdicts.shape[1]:
        raise ValueError(
            f"judge {name!r} answers with {verdicts.shape[1]} numbers a sample and names "
            f"{len(titles)}: {', '.join(map(str, titles))}"
        )
    return {f"{name}_{title}": verdicts[:, i] for i, title in enumerate(titles)}
