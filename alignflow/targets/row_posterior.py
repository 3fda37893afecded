r"""The posterior of the data given a state on the path, as a distribution over stored rows.

.. math:: -\frac{|x - t x_i|^2}{2 (1-t)^2} = k \cdot (x_i - c) - a |x_i - c|^2
    - \frac{|x - t c|^2}{2 (1-t)^2}, \qquad k = \frac{t (x - t c)}{(1-t)^2}, \quad
    a = \frac{t^2}{2 (1-t)^2}

Expanding the square makes it a matrix product; about the rows' center c it loses the fewest digits.
What float32 still loses grows as 1 / (1-t)^2, so late posteriors are held in float64.
"""

import math

import torch
from torch import Tensor

from .row_distributions import RowDistributions
from .stored_rows import StoredRows

__all__ = ["log_marginal", "noise_level", "row_posterior"]

# largest rounding error of a log-probability; a posterior that float32 cannot hold to it is float64
ROUNDING = 1e-3
# smallest noise level, as a fraction of the data's size: float64 cannot tell rows closer apart
FLOOR = 1e-6


def noise_level(rows: StoredRows, t: Tensor) -> Tensor:
    """1 - t, (B,), clamped above what float64 can resolve of these rows."""
    return torch.maximum(1 - t, FLOOR * (1 + rows.radius))


def row_posterior(
    rows: StoredRows, x: Tensor, t: Tensor, fixed: Tensor | None = None
) -> RowDistributions:
    """p(x1 = x_i | x_t = x) for each state, differentiable in x and t.

    At time 0 it is the rows' weights; at time 1 the nearest row, split by weight among equal ones.

    Args:
        rows: The data.
        x: States at time t, (B, D).
        t: (B,), float64.
        fixed: As in `RowDistributions`.
    """
    gap = noise_level(rows, t)
    key = (t / gap.square())[:, None] * (x.double() - t[:, None] * rows.center)
    scale = (t / gap).square() / 2
    dtype = torch.promote_types(rows.dtype, x.dtype)
    if (_rounding(rows, key.detach(), scale.detach()) > ROUNDING).any():
        dtype = torch.float64
    fixed = None if fixed is None else fixed.to(dtype)
    return RowDistributions(rows, key.to(dtype), scale.to(dtype), fixed)


def log_marginal(rows: StoredRows, x: Tensor, t: Tensor) -> Tensor:
    """log rho_t(x), (B,), in nats, for t < 1; arguments as in `row_posterior`."""
    posterior, gap = row_posterior(rows, x, t), noise_level(rows, t)
    offset = (x.double() - t[:, None] * rows.center) / gap[:, None]
    normal = offset.square().sum(1) / 2 + x.shape[1] * (gap.log() + math.log(2 * math.pi) / 2)
    log_normalizer = posterior.log_normalizer() - posterior.key @ rows.center.to(posterior.key)
    return log_normalizer - normal - rows.log_weight.logsumexp(0)


def _rounding(rows: StoredRows, key: Tensor, scale: Tensor) -> Tensor:
    """A bound on the float32 rounding error of the log-probabilities, (B,)."""
    reach = rows.radius + torch.linalg.vector_norm(rows.center)
    products = torch.linalg.vector_norm(key, dim=1) * reach + scale * rows.radius.square()
    weights = rows.log_weight.nan_to_num(neginf=0.0).abs().amax()
    return torch.finfo(torch.float32).eps * (products + weights)
