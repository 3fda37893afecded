r"""Cross-entropy of logits against a distribution over a large vocabulary, without copies of them.

.. math:: \ell = -\sum_k T_k \log \mathrm{softmax}(z)_k

T sums to 1 and may have coefficients of any sign: the gradient in z is then softmax(z) - T. Losses
and gradient are computed a few rows at a time, and besides the arguments nothing of their size
(N, V) is held but the gradient. Plain torch takes small problems, and what needs a second
derivative, forward mode, or a gradient in the target. `kernels.soft_cross_entropy` takes targets
that are given as logits or tokens.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from alignflow.precision import accumulation_dtype

__all__ = ["cross_entropy", "mix_softmax_"]

# up to so many logits copies are small, and plain torch is faster
SMALL = 2**22
# rows that are worked on at a time hold so many logits at least, and else this fraction of all
CHUNK, FRACTION = 2**17, 1 / 256


def cross_entropy(logits: Tensor, target: Tensor, gradient: Tensor | None = None) -> Tensor:
    """Cross-entropy of each row against a distribution, (N,), in float32 at least.

    Args:
        logits: z, (N, V).
        target: T, (N, V).
        gradient: What the backward pass may write the gradient in z into, (N, V); new memory by
            default. It may be the target itself, which allows one backward pass.
    """
    learned = torch.is_grad_enabled() and target.requires_grad
    if logits.numel() <= SMALL or learned or any(map(_is_dual, (logits, target))):
        z = _wide(logits)
        return -(target.to(z.dtype) * z.log_softmax(-1)).sum(-1)
    return _ByRows.apply(logits, target, gradient)[0]


def mix_softmax_(distribution: Tensor, logits: Tensor, weight: Tensor) -> Tensor:
    """weight P + (1 - weight) softmax(z), written over P.

    Args:
        distribution: P, (..., V).
        logits: z, (..., V).
        weight: Broadcasts to (..., 1).
    """
    mixed, logits = distribution.view(-1, logits.shape[-1]), logits.flatten(0, -2)
    weight = weight.expand(*distribution.shape[:-1], 1).reshape(-1, 1)
    for rows in _chunks(logits):
        torch.lerp(logits[rows].softmax(-1), mixed[rows], weight[rows], out=mixed[rows])
    return distribution


class _ByRows(torch.autograd.Function):
    """Losses (N,) and log-normalizers (N, 1), which the backward pass needs."""

    @staticmethod
    def forward(logits: Tensor, target: Tensor, gradient: Tensor | None):
        losses, normalizers = zip(
            *(_of_rows(_wide(logits[rows]), target[rows]) for rows in _chunks(logits)), strict=True
        )
        return torch.cat(losses), torch.cat(normalizers)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        logits, target, ctx.gradient = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(logits, target, output[1])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        logits, target, normalizers = ctx.saved_tensors
        if torch.is_grad_enabled():
            # it is differentiated again
            z = _wide(logits)
            target = target.to(z.dtype)
            change = target.sum(-1, True) * z.softmax(-1) - target
            return upstream[:, None] * change, None, None
        gradient = torch.empty_like(logits) if ctx.gradient is None else ctx.gradient
        for rows in _chunks(logits):
            z = _wide(logits[rows])
            part = target[rows].to(z.dtype)
            change = (z - normalizers[rows]).exp_().mul_(part.sum(-1, True)).sub_(part)
            gradient[rows] = change.mul_(upstream[rows, None])
        return gradient, None, None


def _of_rows(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    normalizer = z.logsumexp(-1, keepdim=True)
    return torch.linalg.vecdot(target.to(z.dtype), normalizer - z), normalizer


def _chunks(logits: Tensor) -> Iterator[slice]:
    rows, size = logits.shape
    at_once = max(1, int(max(CHUNK, FRACTION * logits.numel()) / size))
    return (slice(start, start + at_once) for start in range(0, rows, at_once))


def _wide(logits: Tensor) -> Tensor:
    return logits.to(accumulation_dtype(logits))


def _is_dual(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None
