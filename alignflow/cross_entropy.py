r"""Cross-entropies of logits over large vocabularies, without copies of them.

.. math::
    \ell = -\sum_k T_k \log \mathrm{softmax}(z)_k, \qquad
    T = a\, \mathrm{softmax}(A) + b\, \mathrm{softmax}(B) + c\, \mathrm{onehot}

Coefficients have any sign and sum to 1, as those of all targets on the simplex do: the gradient in
z is then softmax(z) - T. Losses and gradient are computed a few rows at a time, and besides the
arguments nothing of their size (N, V) is held but the gradient. Plain torch takes small problems,
and what needs a second derivative, forward mode, or a gradient in the target.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["cross_entropy", "mix_softmax_", "soft_cross_entropy"]

# up to so many logits copies are small, and plain torch is faster
SMALL = 2**22
# rows that are worked on at a time hold so many logits at least, and else this fraction of all
CHUNK, FRACTION = 2**17, 1 / 256

Target = Callable[..., Tensor]
"""A callable (rows, like, *parts) -> T of a slice of rows, (n, V), of a dtype as `like`."""


def cross_entropy(logits: Tensor, target: Tensor, gradient: Tensor | None = None) -> Tensor:
    """Cross-entropy of each row against a distribution, (N,), in float32 at least.

    Args:
        logits: z, (N, V).
        target: T, (N, V).
        gradient: What the backward pass may write the gradient in z into, (N, V); new memory by
            default. It may be the target itself, which allows one backward pass.
    """
    return _losses(logits, _given, (target,), gradient)


def soft_cross_entropy(
    logits: Tensor,
    teacher_a: Tensor | None,
    teacher_b: Tensor | None,
    labels: Tensor | None,
    weights: Tensor,
) -> Tensor:
    """Cross-entropy of each row against a softmax(A) + b softmax(B) + c onehot, (N,).

    Args:
        logits: z, (N, V).
        teacher_a: Logits A, (N, V); None for a = 0.
        teacher_b: Logits B, (N, V); None for b = 0.
        labels: Tokens (N,), whole numbers from 0 to V - 1; None for c = 0.
        weights: a, b and c of each row, (N, 3).

    Raises:
        ValueError: If the shapes do not fit.
    """
    parts = (teacher_a, teacher_b, labels, weights)
    wanted = (logits.shape, logits.shape, logits.shape[:1], (len(logits), 3))
    fit = (part is None or part.shape == shape for part, shape in zip(parts, wanted, strict=True))
    if logits.ndim != 2 or not all(fit):
        shapes = ", ".join(str(None if p is None else tuple(p.shape)) for p in (logits, *parts))
        raise ValueError(
            "logits and teachers must be (N, V), labels (N,) and weights (N, 3), got " + shapes
        )
    return _losses(logits, _mixed, parts)


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


def _given(rows: slice, like: Tensor, target: Tensor) -> Tensor:
    return target[rows].to(like.dtype)


def _mixed(
    rows: slice,
    like: Tensor,
    teacher_a: Tensor | None,
    teacher_b: Tensor | None,
    labels: Tensor | None,
    weights: Tensor,
) -> Tensor:
    a, b, c = weights[rows].to(like.dtype).split(1, dim=1)
    target = torch.zeros_like(like)
    for weight, logits in ((a, teacher_a), (b, teacher_b)):
        if logits is not None:
            target.addcmul_(weight, logits[rows].to(like.dtype).softmax(-1))
    return target if labels is None else target.scatter_add_(1, labels[rows, None], c)


def _losses(
    logits: Tensor, target: Target, parts: tuple[Tensor | None, ...], gradient: Tensor | None = None
) -> Tensor:
    given = [part for part in parts if part is not None]
    learned = torch.is_grad_enabled() and any(part.requires_grad for part in given)
    if logits.numel() <= SMALL or learned or any(map(_is_dual, (logits, *given))):
        z = _wide(logits)
        return -(target(slice(None), z, *parts) * z.log_softmax(-1)).sum(-1)
    losses, _ = _ByRows.apply(logits, target, gradient, *parts)
    return losses


class _ByRows(torch.autograd.Function):
    """Losses (N,) and log-normalizers (N, 1), which the backward pass needs."""

    @staticmethod
    def forward(logits: Tensor, target: Target, gradient: Tensor | None, *parts: Tensor | None):
        losses, normalizers = zip(
            *(_of_rows(_wide(logits[rows]), rows, target, parts) for rows in _chunks(logits)),
            strict=True,
        )
        return torch.cat(losses), torch.cat(normalizers)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        logits, ctx.target, ctx.gradient, *parts = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(logits, output[1], *parts)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        logits, normalizers, *parts = ctx.saved_tensors
        none = (None,) * (2 + len(parts))
        if torch.is_grad_enabled():
            # it is differentiated again
            z = _wide(logits)
            target = ctx.target(slice(None), z, *parts)
            return upstream[:, None] * (target.sum(-1, True) * z.softmax(-1) - target), *none
        gradient = torch.empty_like(logits) if ctx.gradient is None else ctx.gradient
        for rows in _chunks(logits):
            z = _wide(logits[rows])
            target = ctx.target(rows, z, *parts)
            change = (z - normalizers[rows]).exp_().mul_(target.sum(-1, True)).sub_(target)
            gradient[rows] = change.mul_(upstream[rows, None])
        return gradient, *none


def _of_rows(z: Tensor, rows: slice, target: Target, parts: Any) -> tuple[Tensor, Tensor]:
    normalizer = z.logsumexp(-1, keepdim=True)
    return torch.linalg.vecdot(target(rows, z, *parts), normalizer - z), normalizer


def _chunks(logits: Tensor) -> Iterator[slice]:
    rows, size = logits.shape
    at_once = max(1, int(max(CHUNK, FRACTION * logits.numel()) / size))
    return (slice(start, start + at_once) for start in range(0, rows, at_once))


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _is_dual(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None
