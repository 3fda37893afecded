"""Whether samples reached the tilt, in one sentence with the numbers that it rests on."""

import math
from statistics import NormalDist

import msgspec

from .estimate import Estimate
from .names import label
from .tilt_check import TiltCheck

__all__ = ["WITHIN", "with_verdict"]

WITHIN = 3.0
"""Combined standard errors within which one number agrees."""
LEAST_ESS = 30.0
"""Effective sample size of the base under the tilt below which nothing can be told."""


def with_verdict(check: TiltCheck, base_samples: int) -> TiltCheck:
    """A comparison with its verdict.

    Args:
        check: Its numbers.
        base_samples: How many samples of the base there are.
    """
    target, bound = f"the tilt of strength {check.strength:g}", _bound(_measures(check))
    if check.base_ess is not None and not check.base_ess.value >= LEAST_ESS:
        reached, said = None, _cannot_tell(target, check.base_ess.value, base_samples)
    elif off := _off(check, bound):
        reached, said = False, f"Did not reach {target}: {_gaps(check, off)}."
    else:
        reached, said = True, f"Reached {target}: {_agreement(check, bound)}."
    return msgspec.structs.replace(check, reached=reached, verdict=said)


def _measures(check: TiltCheck) -> int:
    return len(check.numbers) + (check.mmd is not None)


def _bound(measures: int) -> float:
    """Standard errors that the largest of so many gaps passes as rarely by chance as one passes
    `WITHIN` (Bonferroni)."""
    normal = NormalDist()
    return -normal.inv_cdf(normal.cdf(-WITHIN) / measures)


def _off(check: TiltCheck, bound: float) -> dict[str, float]:
    """What differs from the tilt, by how many standard errors; the mean reward first, then the
    largest."""
    gaps = {name: found.z for name, found in check.numbers.items()}
    if check.mmd is not None and check.mmd.value > 0:
        # samples that are all one point have no error
        gaps["mmd"] = check.mmd.value / max(check.mmd.standard_error, 1e-9 * check.mmd.value)
    off = {name: gap for name, gap in gaps.items() if not abs(gap) <= bound}
    return dict(sorted(off.items(), key=lambda item: (item[0] != "reward", -abs(item[1]))))


def _cannot_tell(target: str, ess: float, base_samples: int) -> str:
    wanted = math.ceil(base_samples * LEAST_ESS / ess)
    return (
        f"Whether it reached {target} cannot be told: the {base_samples:,} samples of the base "
        f"have an effective sample size of {ess:.3g} under it, below {LEAST_ESS:g}; draw more of "
        f"the base (about {wanted:,} or more), or lower the strength."
    )


def _agreement(check: TiltCheck, bound: float) -> str:
    others = _measures(check) - 1
    what = "the mean reward"
    if others:
        what += f" and {others} other measure{'s' if others > 1 else ''}"
    verb = "are" if others else "is"
    agreement = f"{what} {verb} within {bound:.2g} standard errors"
    if check.base_ess is None:
        return agreement
    return f"{agreement} (effective sample size of the base {check.base_ess.value:,.0f})"


def _gaps(check: TiltCheck, off: dict[str, float]) -> str:
    first, *others = off
    gap = f"{abs(off[first]):.3g} standard errors"
    if first == "mmd":
        said = f"{label(first)} is {check.mmd}, {gap} above 0"
    else:
        found = check.numbers[first]
        side = "above" if off[first] > 0 else "below"
        said = f"{label(first)} is {found.samples}, {gap} {side} the tilt's {_shown(found.tilt)}"
    if check.progress is not None:
        way, error = 100 * check.progress.value, 100 * check.progress.standard_error
        said += f"; {way:.1f} ± {error:.1f} % of the way from the base's mean reward to the tilt's"
    if others:
        said += f"; also off: {', '.join(map(label, others))}"
    return said


def _shown(estimate: Estimate) -> str:
    """Without an error where it is exact."""
    return str(estimate) if estimate.standard_error else f"{estimate.value:.4g}"
