r"""Log-weights of particles: their effective sample size, and schemes to resample by them.

.. math:: \mathrm{ESS} = \frac{(\sum_i w_i)^2}{\sum_i w_i^2}, \qquad w = e^{\text{log\_weight}}

A system is M particles, a row of a (B, M) tensor. A log-weight of -inf is a particle that was
dropped; a system with nothing but these is refused. Under every scheme particle i has M w_i copies
on average; systematic, residual and SSP have less variance than multinomial.
"""

import torch
from torch import Tensor

from alignflow import draws

__all__ = [
    "SCHEMES",
    "effective_sample_size",
    "normalize_weights",
    "resampled_rows",
    "systematic",
]


def normalize_weights(log_weight: Tensor) -> Tensor:
    """Weights (*B, M) that sum to one, from log-weights known up to a constant.

    Raises:
        ValueError: If some are NaN or +inf, or all of a system are -inf.
    """
    invalid, lost = ~(log_weight < torch.inf), log_weight.isneginf().all(-1)
    # asked once: each time a GPU must be waited for
    if not (invalid.any() | lost.any()):
        return log_weight.softmax(-1)
    if invalid.any():
        raise ValueError("a log-weight must be a number or -inf, got NaN or +inf")
    systems = ", ".join(map(str, lost.flatten().nonzero().flatten().tolist()[:8]))
    raise ValueError(
        f"all {log_weight.shape[-1]} particles of system {systems} have a log-weight of -inf: "
        "none is left to weigh"
    )


def effective_sample_size(log_weight: Tensor) -> Tensor:
    """ESS (*B,) of log-weights (*B, M): 1 if one particle has all the weight, M if all are equal.

    Raises:
        ValueError: As `normalize_weights`.
    """
    return 1 / normalize_weights(log_weight).square().sum(-1)


def systematic(
    log_weight: Tensor, count: int | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Systematic resampling: each particle i has floor or ceil of count w_i copies.

    One uniform number a system, shared by `count` evenly spaced positions in the cumulative weight;
    so the expected number of copies is count w_i exactly. With count=1 it is one categorical draw.

    Args:
        log_weight: (B, M).
        count: Particles to draw; M by default.
        generator: Source of the uniforms.

    Returns:
        Indices into the M particles, (B, count), in increasing order.

    Raises:
        ValueError: As `normalize_weights`.
    """
    systems, particles = log_weight.shape
    uniform = draws.uniform((systems, 1), generator, torch.float64, log_weight.device)
    weights = normalize_weights(log_weight.double())
    return _systematic(weights, uniform, particles if count is None else count)


def _systematic(weights: Tensor, uniform: Tensor, count: int | None = None) -> Tensor:
    count = weights.shape[-1] if count is None else count
    positions = (torch.arange(count, device=weights.device) + uniform[:, :1]) / count
    return _inverse(weights, positions)


def _multinomial(weights: Tensor, uniform: Tensor) -> Tensor:
    return _inverse(weights, uniform)


def _residual(weights: Tensor, uniform: Tensor) -> Tensor:
    expected = weights.shape[-1] * weights
    # a weight of k/M may be held as a little less
    copies = (expected + 1e-9).floor()
    left = (expected - copies).clamp_min(0)
    # a system without anything left draws nobody: its copies fill it
    drawn = _inverse(left + (left.sum(-1, keepdim=True) == 0), uniform)
    place = torch.arange(weights.shape[-1], device=weights.device)
    return torch.where(place < copies.sum(-1, keepdim=True), _repeated(copies), drawn)


def _ssp(weights: Tensor, uniform: Tensor) -> Tensor:
    expected = weights.shape[-1] * weights
    copies = expected.floor()
    rows = torch.arange(len(weights), device=weights.device)
    open_one = torch.zeros_like(rows)  # the particle of each system whose fraction is not settled
    fraction = (expected - copies).clone()
    for j in range(1, weights.shape[-1]):
        a, b = fraction[rows, open_one], fraction[:, j]
        total = a + b
        small = total < 1
        # one of the two takes all that there is (below 1), or is filled up to 1
        first = torch.where(small, a / total.clamp_min(1e-300), (1 - b) / (2 - total))
        wins = uniform[:, j] < first
        full, rest = torch.where(small, 0.0, 1.0), torch.where(small, total, total - 1)
        stays = torch.where(small, wins, ~wins)  # whether the open one keeps the unsettled rest
        fraction[rows, open_one] = torch.where(stays, rest, full)
        fraction[:, j] = torch.where(stays, full, rest)
        open_one = torch.where(stays, open_one, j)
    return _repeated(copies + fraction.round())


def _inverse(weights: Tensor, positions: Tensor) -> Tensor:
    """The particle at each position in [0, 1) of the cumulative weight."""
    cumulative = weights.cumsum(-1)
    # ends at 1 exactly, so that rounding never leads past the last particle of positive weight
    cumulative = cumulative / cumulative[:, -1:]
    # (M - 1 + u) / M may round to 1, which lies beyond every particle
    positions = positions.clamp(max=1 - torch.finfo(torch.float64).eps)
    return torch.searchsorted(cumulative, positions, right=True)


def _repeated(copies: Tensor) -> Tensor:
    """Indices (B, M) with each particle as often as it says; the last one fills what is missing."""
    place = torch.arange(copies.shape[-1], device=copies.device, dtype=copies.dtype)
    found = torch.searchsorted(copies.cumsum(-1), place.expand_as(copies).contiguous(), right=True)
    return found.clamp_max(copies.shape[-1] - 1)


# from weights (B, M) that sum to one and uniforms (B, M)
SCHEMES = {
    "systematic": _systematic,
    "residual": _residual,
    "ssp": _ssp,
    "multinomial": _multinomial,
}


def resampled_rows(log_weight: Tensor, uniform: Tensor, where: Tensor, scheme: str) -> Tensor:
    """Rows of a flat batch, M a system, after some of its systems are resampled, (S M,).

    Args:
        log_weight: Of the particles of each system, (S, M).
        uniform: Of each row, (S M,), in float64.
        where: Systems that are resampled, (S,); the others keep theirs in place.
        scheme: One of `SCHEMES`.
    """
    systems, particles = log_weight.shape
    weights = log_weight.double().softmax(-1)
    drawn = SCHEMES[scheme](weights, uniform.unflatten(0, (-1, particles)))
    same = torch.arange(particles, device=drawn.device).expand_as(drawn)
    start = torch.arange(systems, device=drawn.device).unsqueeze(-1) * particles
    return (start + torch.where(where.unsqueeze(-1), drawn, same)).flatten()
