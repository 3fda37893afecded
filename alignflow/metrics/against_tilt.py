r"""Did it reach the tilt? Samples against the base's, reweighted, for models without closed form.

.. math:: z = \frac{\bar f - E^*[f]}{\sqrt{\mathrm{SE}^2 + \mathrm{SE}^{*2}}}, \qquad
    E^*[f] = \frac{\sum_i e^{\lambda r_i} f_i}{\sum_i e^{\lambda r_i}}

f is the reward and each number of a judge, the sums are over samples of the base. The squared MMD
to the same weighted samples says whether anything else differs. The weights at full strength tell
whether the base's samples can answer at all: by their effective sample size.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow.resampling import effective_sample_size

from .estimate import Estimate, mean
from .pairwise import default_bandwidths, mmd
from .reweighting import TiltRows
from .sources import thinned
from .tilt_check import Comparison, TiltCheck
from .verdict import WITHIN, with_verdict

__all__ = ["check_tilt", "mmd_to_tilt", "particle_ess"]

FEW = 3
"""Samples on a side, of one condition, below which an MMD has no error."""


def check_tilt(
    strength: float,
    samples: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    tilted: TiltRows,
    discrepancy: Estimate | None = None,
    particle_ess: Estimate | None = None,
) -> TiltCheck:
    """Compare samples with the exact tilt.

    Args:
        strength: Of the tilt.
        samples: Numbers of the samples by name, (N,) each, `reward` among them; -inf where a reward
            dropped a sample, which counts nothing.
        base: Those of the base's samples, (M,) each.
        tilted: The exact tilt; if it is of samples, of those of the base, in their order.
        discrepancy: Squared MMD of the samples to the tilt, as by `mmd_to_tilt`.
        particle_ess: Of the samples' own weights.

    Raises:
        ValueError: If a reward drops all samples of a side but one.
    """
    numbers = {
        name: _compared(name, values, base[name], tilted) for name, values in samples.items()
    }
    if discrepancy is not None and not math.isfinite(discrepancy.standard_error):
        discrepancy = None
    check = TiltCheck(
        strength=strength,
        numbers=numbers,
        mmd=discrepancy,
        base_ess=tilted.ess,
        progress=_progress(numbers["reward"], base["reward"], tilted),
        particle_ess=particle_ess,
    )
    return with_verdict(check, len(tilted.weight))


def mmd_to_tilt(
    x: Tensor,
    y: Tensor,
    log_weight: Tensor,
    x_groups: Tensor | None = None,
    y_groups: Tensor | None = None,
) -> Estimate | None:
    """Squared MMD of samples to weighted samples of the base, the mean over their conditions.

    Args:
        x: Samples (N, *E).
        y: Samples of the base (M, *E).
        log_weight: Of these, (M,), at full strength.
        x_groups: Index of each sample's condition, (N,); None where all have one.
        y_groups: Likewise, (M,).

    Returns:
        None if a condition has fewer than three samples on a side.
    """
    x, y, log_weight = thinned(x), thinned(y), thinned(log_weight)
    counts = log_weight > -torch.inf
    y, log_weight = y[counts.to(y.device)], log_weight[counts]
    if x_groups is None or y_groups is None:
        return mmd(x, y, log_weight=log_weight) if min(len(x), len(y)) >= FEW else None
    x_groups, y_groups = thinned(x_groups), thinned(y_groups)[counts.to(y_groups.device)]
    of_x, of_y = (torch.bincount(groups) for groups in (x_groups, y_groups))
    if len(of_x) != len(of_y) or min(of_x.min(), of_y.min()) < FEW:
        return None
    bandwidths = default_bandwidths(torch.cat([x.flatten(1), y.flatten(1)]))
    found = [
        mmd(x[x_groups == group], y[y_groups == group], bandwidths, log_weight[y_groups == group])
        for group in range(len(of_x))
    ]
    fractions = (of_x / len(x)).tolist()
    pairs = list(zip(fractions, found, strict=True))
    return Estimate(
        sum(fraction * each.value for fraction, each in pairs),
        math.hypot(*(fraction * each.standard_error for fraction, each in pairs)),
    )


def particle_ess(samples: Any) -> Estimate | None:
    """Effective sample size of a system's particles by their final weights, the mean over systems.

    None of samples that are not of several particles, or say nothing of them.
    """
    particles = samples.get("particles", None) if isinstance(samples, TensorDictBase) else None
    if not isinstance(particles, TensorDictBase) or "log_weight" not in particles.keys():
        return None
    log_weight = particles["log_weight"]
    several = log_weight.ndim == 2 and log_weight.shape[1] > 1 and len(log_weight) > 1
    return mean(effective_sample_size(log_weight)) if several else None


def _compared(name: str, values: Tensor, base: Tensor, tilted: TiltRows) -> Comparison:
    values, base = _valid(name, values, "samples"), _valid(name, base, "samples of the base")
    ours, exact = mean(values), tilted.mean(name)
    # as in a score test, so that a rate of 0 or 1 has an error too
    error = max(ours.standard_error, tilted.std(name) / len(values) ** 0.5)
    gap = ours.value - exact.value
    rounding = 1e-9 * max(abs(ours.value), abs(exact.value), 1e-30)
    z = gap / max(math.hypot(error, exact.standard_error), rounding)
    return Comparison(ours, exact, mean(base), z)


def _valid(name: str, values: Tensor, whose: str) -> Tensor:
    valid = values[values > -torch.inf]
    if len(valid) < 2:
        raise ValueError(
            f"{name} is -inf (dropped) for all but {len(valid)} of the {len(values)} {whose}, and "
            "a mean with an error needs two"
        )
    return valid.double()


def _progress(reward: Comparison, base: Tensor, tilted: TiltRows) -> Estimate | None:
    """(mean - base) / (tilt - base) by the delta method; the last two are of the same samples."""
    start, end = reward.base, reward.tilt
    covariance = 0.0
    if tilted.ess is not None:
        counts = base > -torch.inf
        change = torch.where(counts, base.double() - start.value, 0.0) / counts.sum()
        covariance = (change @ tilted.influence("reward")).item()
    way = end.value - start.value
    errors = start.standard_error**2, end.standard_error**2
    if abs(way) <= WITHIN * math.sqrt(max(sum(errors) - 2 * covariance, 0.0)):
        return None
    made = (reward.samples.value - start.value) / way
    variance = (
        reward.samples.standard_error**2
        + (made - 1) ** 2 * errors[0]
        + made**2 * errors[1]
        - 2 * made * (made - 1) * covariance
    )
    return Estimate(made, math.sqrt(max(variance, 0.0)) / abs(way))
