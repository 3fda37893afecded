r"""Distributions over the rows of a stored data set, streamed in chunks of rows.

.. math:: p_i \propto \exp(w_i + k \cdot x_i - a \, q_i), \qquad q_i = |x_i - c|^2

The posterior p(x1 = x_i | x_t) of the empirical distribution has this form, and so has any tilt of
it by a reward of the rows, which adds to w. A mean over rows is the mean of its chunks' means,
weighted by a running log-sum-exp, so no tensor with both B and N in its shape is ever made.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import Function

from alignflow.draws import uniform
from alignflow.precision import full_precision

from .stored_rows import StoredRows

__all__ = ["RowDistributions"]


@dataclass(frozen=True)
class RowDistributions:
    """B distributions over the same rows. Results have the dtype of `key`, and gradients in it.

    Autocast does not apply to them: a product in bf16 would not tell rows apart.

    Args:
        rows: The rows, with w.
        key: k, (B, D).
        scale: a, (B,).
        fixed: Zeros and ones f, (B, D): rows that are not 1 at all ones of f have probability 0.
            None excludes no row.
    """

    rows: StoredRows
    key: Tensor
    scale: Tensor
    fixed: Tensor | None = None

    def chunks(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Which rows, these rows (n, D), and their unnormalized log-probabilities (B, n)."""
        dtype = self.key.dtype
        for rows, states in self.rows.chunks(dtype):
            logits = self.key @ states.T
            logits.addr_(self.scale, self.rows.squares[rows].to(dtype), alpha=-1)
            logits.add_(self.rows.log_weight[rows].to(dtype))
            if self.fixed is not None:
                agree = self.fixed @ states.T
                logits.masked_fill_(agree < self.fixed.sum(1, keepdim=True) - 0.5, -torch.inf)
            yield rows, states, logits

    def log_normalizer(self) -> Tensor:
        """log sum_i exp(w_i + k x_i - a q_i), (B,)."""
        return self._moments(lambda rows, states: states[:, :0])[0]

    def mean(self) -> Tensor:
        """sum_i p_i x_i, (B, D)."""
        return self._moments(lambda rows, states: states)[1]

    def expectation(self, values: Tensor) -> Tensor:
        """sum_i p_i f_i, (B, *F), of values f (N, *F) of the rows."""
        read = values.reshape(len(values), -1)
        mean = self._moments(lambda rows, states: read[rows].to(states))[1]
        return mean.reshape(len(mean), *values.shape[1:])

    def draw(self, k: int, generator: torch.Generator | None = None) -> Tensor:
        """Row numbers of k independent draws of each distribution, (B, k), by inverse
        cumulative weight."""
        device = self.key.device
        shape = (len(self.key), k)
        drawn_mass = uniform(shape, generator, torch.float64, device)
        log_normalizer = self.log_normalizer()[:, None]
        drawn = torch.zeros(shape, dtype=torch.int64, device=device)
        below = torch.zeros(len(drawn), 1, dtype=torch.float64, device=device)
        last = torch.zeros_like(drawn[:, :1])
        with full_precision(device):
            for rows, _, logits in self.chunks():
                weight, log_mass = _softmax(logits)
                mass = (log_mass - log_normalizer).double().exp()
                edges = below + mass * weight.double().cumsum(1)
                top = edges[:, -1:].contiguous()
                # a draw is the row whose number is how many edges lie at or below its mass
                drawn += torch.searchsorted(edges, drawn_mass, right=True)
                last = torch.where(top > below, rows.start + torch.searchsorted(edges, top), last)
                below = top
        # by rounding the last edge may lie below 1: what is above it is of the last row with weight
        return torch.minimum(drawn, last)

    def _moments(self, read: Callable[[slice, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        with full_precision(self.key.device):
            moments = _Moments.apply(self.key, self.scale, self.rows, self.fixed, read)
        return moments  # pyright: ignore


class _Moments(Function):
    """Log-normalizer (B,) and mean (B, F) of the values that `read(rows, states)` (n, F) gives.

    The backward pass streams like the forward one. It is plain torch over what was saved, so second
    derivatives are right too, but these keep all chunks.
    """

    @staticmethod
    def forward(ctx, key, scale, rows, fixed, read):
        total = key.new_full((len(key), 1), -torch.inf)
        mean = torch.zeros_like(total)
        for part, states, logits in RowDistributions(rows, key, scale, fixed).chunks():
            weight, log_mass = _softmax(logits)
            total = total.logaddexp(log_mass)
            mean = mean.lerp(weight @ read(part, states), (log_mass - total).exp())
        log_normalizer = total.squeeze(1)
        if fixed is not None:
            mean = _where_left(log_normalizer, mean)
        ctx.rows, ctx.read, ctx.fixed = rows, read, fixed
        ctx.save_for_backward(key, scale, log_normalizer, mean)
        return log_normalizer, mean

    @staticmethod
    def backward(ctx, *grad_outputs):
        along_log_normalizer, along_mean = grad_outputs
        key, scale, log_normalizer, mean = ctx.saved_tensors
        shift = (along_log_normalizer - (along_mean * mean).sum(1))[:, None]
        to_key, to_scale = torch.zeros_like(key), torch.zeros_like(scale)
        for part, states, logits in RowDistributions(ctx.rows, key, scale, ctx.fixed).chunks():
            weight, log_mass = _softmax(logits)
            weight = weight * (log_mass - log_normalizer[:, None]).exp()
            adjoint = weight * torch.addmm(shift, along_mean, ctx.read(part, states).T)
            to_key = torch.addmm(to_key, adjoint, states)
            to_scale = to_scale - adjoint @ ctx.rows.squares[part].to(adjoint)
        return to_key, to_scale, None, None, None


def _where_left(log_normalizer: Tensor, mean: Tensor) -> Tensor:
    """The means (B, F); an error where no row is left, or NaN on a GPU, which is not waited for."""
    # excluded rows stand at the lowest number
    none = log_normalizer < torch.finfo(log_normalizer.dtype).min / 2
    if none.device.type == "cpu" and none.any():
        raise ValueError(
            "no stored row with a weight is left by the condition of sample "
            f"{int(none.nonzero()[0])} of {len(none)}: it contradicts them all"
        )
    return mean.masked_fill(none[:, None], torch.nan)


def _softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (B, n) of a chunk's rows within it, and its log-mass (B, 1).

    The softmax's own exponential is taken alone: torch.exp is 20 times slower where it underflows.
    """
    logits = logits.clamp(min=torch.finfo(logits.dtype).min)  # a chunk may be without any weight
    weight = logits.softmax(1)
    return weight, logits.amax(1, keepdim=True) - weight.amax(1, keepdim=True).log()
