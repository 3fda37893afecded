r"""Cross-entropy against two teachers and a label from hidden states, with the head fused.

.. math::
    z = h W^\top, \qquad L = -\sum_k T_k \log \mathrm{softmax}(z)_k, \qquad
    \partial L / \partial h = (w\, \mathrm{softmax}(z) - T)\, W, \qquad
    \partial L / \partial W = (w\, \mathrm{softmax}(z) - T)^\top h

T and w are those of `soft_cross_entropy`. Logits exist for some tokens at a time: a matrix product
writes them, the loss's two kernels read them, the second replaces them by their gradient, and a
matrix product consumes that. Memory is that of the tokens at a time, in the dtype of the hidden
states, whatever N is; nothing is [N, V].

Products of [N, d] and [d, V] are most of the work: forward one, and one for each teacher that is
given by hidden states. The gradient in the hidden states needs one more, in the same pass, since a
row's is that row's upstream number times something that does not depend on it. The gradient in the
head sums over rows with upstream numbers not known yet, so a head that learns has its logits, and
the teachers', computed again in the backward pass.

Source: tokens in chunks with the gradient formed early are Liger's fused linear cross-entropy
(2410.10989); the recomputation is that of checkpointing.
"""

import torch
from torch import Tensor

from alignflow.kernels import backend
from alignflow.kernels.backend import needs_definition, pieces, runs_triton
from alignflow.kernels.soft_cross_entropy import (
    check_rows,
    soft_cross_entropy_reference,
    torch_backward,
    torch_forward,
    triton_backward,
    triton_forward,
)
from alignflow.precision import accumulation_dtype

__all__ = ["Teacher", "linear_soft_cross_entropy", "linear_soft_cross_entropy_reference"]

Teacher = Tensor | tuple[Tensor, Tensor] | None
"""Logits (N, V), or hidden states (N, e) with a head (V, e), or None."""


def linear_soft_cross_entropy(
    hidden: Tensor,
    head: Tensor,
    teacher_a: Teacher,
    teacher_b: Teacher,
    labels: Tensor | None,
    weights: Tensor,
) -> Tensor:
    """Losses of rows whose logits are hidden @ head.T, which are never all in memory.

    Gradients flow into the hidden states and the head. If one is wanted in anything else, or in
    forward mode, or of the gradient itself, it is the definition's, which stores all logits: give
    constants detached, the head of a teacher as well.

    Args:
        hidden: (N, d).
        head: W, (V, d).
        teacher_a: Logits (N, V), or hidden states and their head, ((N, e), (V, e)); None for a = 0.
        teacher_b: As `teacher_a`; None for b = 0.
        labels: As `soft_cross_entropy` takes them, (N,).
        weights: The coefficients a, b, c of each row, (N, 3).

    Returns:
        (N,), at least float32.

    Raises:
        ValueError: If shapes disagree, or a label on the CPU is out of range.
    """
    if hidden.ndim != 2 or head.ndim != 2 or hidden.shape[1] != head.shape[1]:
        raise ValueError(
            "hidden must be (N, d) and head (V, d), got "
            f"{tuple(hidden.shape)} and {tuple(head.shape)}"
        )
    a, head_a = _parts("teacher_a", teacher_a, hidden, head)
    b, head_b = _parts("teacher_b", teacher_b, hidden, head)
    given = (a if head_a is None else None, b if head_b is None else None)
    check_rows(hidden, *given, labels, weights, len(head))
    if needs_definition(a, head_a, b, head_b, weights):
        return linear_soft_cross_entropy_reference(
            hidden, head, teacher_a, teacher_b, labels, weights
        )
    hidden, head = _autocast(hidden), _autocast(head)
    a, head_a, b, head_b = (None if x is None else _autocast(x) for x in (a, head_a, b, head_b))
    learned = torch.is_grad_enabled() and hidden.requires_grad
    early = learned and not head.requires_grad
    triton = runs_triton(hidden, head, a, head_a, b, head_b)
    return _operator(hidden, head, a, head_a, b, head_b, labels, weights, early, triton)[0]


def linear_soft_cross_entropy_reference(
    hidden: Tensor,
    head: Tensor,
    teacher_a: Teacher,
    teacher_b: Teacher,
    labels: Tensor | None,
    weights: Tensor,
) -> Tensor:
    """The definition, differentiable in everything to any order and in both modes."""
    a, b = (
        teacher[0] @ teacher[1].T if isinstance(teacher, tuple) else teacher
        for teacher in (teacher_a, teacher_b)
    )
    return soft_cross_entropy_reference(hidden @ head.T, a, b, labels, weights)


def _autocast(tensor: Tensor) -> Tensor:
    """The tensor in the dtype that a product of matrices has here."""
    if not torch.is_autocast_enabled(tensor.device.type):
        return tensor
    return tensor.to(torch.get_autocast_dtype(tensor.device.type))


def _parts(
    name: str, teacher: Teacher, hidden: Tensor, head: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """A teacher's logits or hidden states, and its head if it has one."""
    if not isinstance(teacher, tuple):
        return teacher, None
    states, its_head = teacher
    if states.shape != (len(hidden), its_head.shape[-1]) or len(its_head) != len(head):
        raise ValueError(
            f"{name} must be ({len(hidden)}, e) and ({len(head)}, e), got "
            f"{tuple(states.shape)} and {tuple(its_head.shape)}"
        )
    return states, its_head


# --- some rows at once ----------------------------------------------------------------------------


class _Rows:
    """Arguments of the loss for some rows at a time, with logits computed from hidden states."""

    def __init__(self, hidden, head, a, head_a, b, head_b, labels, weights):
        self.hidden, self.head, self.labels, self.weights = hidden, head, labels, weights
        self.teachers = ((a, head_a), (b, head_b))
        least = backend.ROWS_OF_A_PRODUCT
        self.pieces = pieces(len(hidden), len(head), hidden.device, least)

    def loss_arguments(self, piece: slice):
        logits = self.hidden[piece] @ self.head.T
        a, b = (
            None if x is None else x[piece] if head is None else x[piece] @ head.T
            for x, head in self.teachers
        )
        labels = None if self.labels is None else self.labels[piece]
        return logits, a, b, labels, self.weights[piece]


def _run_forward(rows: _Rows, early: bool, triton: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Losses (N,), normalizers (N, 3), and dL/dhidden (N, d) of the loss of each row if `early`."""
    hidden, head = rows.hidden, rows.head
    dtype = torch.float32 if triton else accumulation_dtype(hidden)
    loss = torch.empty(len(hidden), dtype=dtype, device=hidden.device)
    normalizers = torch.empty(len(hidden), 3, dtype=dtype, device=hidden.device)
    gradient = torch.empty(len(hidden) if early else 0, hidden.shape[1], **_like(hidden))
    for piece in rows.pieces:
        arguments = rows.loss_arguments(piece)
        forward = triton_forward if triton else torch_forward
        loss[piece], normalizers[piece] = forward(*arguments)
        if early:
            upstream = torch.ones(len(arguments[0]), dtype=dtype, device=hidden.device)
            backward = triton_backward if triton else torch_backward
            backward(upstream, *arguments, normalizers[piece], arguments[0])
            gradient[piece] = arguments[0] @ head
    return loss, normalizers, gradient


def _run_backward(
    upstream: Tensor, normalizers: Tensor, rows: _Rows, triton: bool
) -> tuple[Tensor, Tensor]:
    """Gradients in the hidden states (N, d) and in the head (V, d)."""
    hidden, head = rows.hidden, rows.head
    in_hidden = torch.empty(hidden.shape, **_like(hidden))
    in_head = torch.zeros(head.shape, dtype=accumulation_dtype(head), device=head.device)
    backward = triton_backward if triton else torch_backward
    for piece in rows.pieces:
        arguments = rows.loss_arguments(piece)
        gradient = arguments[0]
        backward(upstream[piece], *arguments, normalizers[piece], gradient)
        in_hidden[piece] = gradient @ head
        if in_head.dtype == gradient.dtype:
            in_head.addmm_(gradient.T, hidden[piece])
        else:
            in_head += gradient.T @ hidden[piece]
    return in_hidden, in_head.to(head.dtype)


def _like(tensor: Tensor) -> dict:
    return {"dtype": tensor.dtype, "device": tensor.device}


# --- the operator ---------------------------------------------------------------------------------

ROWS = (
    "Tensor hidden, Tensor head, Tensor? a, Tensor? head_a, Tensor? b, Tensor? head_b, "
    "Tensor? labels, Tensor weights"
)


@torch.library.custom_op(
    "alignflow::linear_soft_cross_entropy",
    mutates_args=(),
    schema=f"({ROWS}, bool early, bool triton) -> (Tensor, Tensor, Tensor)",
)
def _operator(hidden, head, a, head_a, b, head_b, labels, weights, early, triton):
    rows = _Rows(hidden, head, a, head_a, b, head_b, labels, weights)
    with torch.cuda.device_of(hidden):
        return _run_forward(rows, early, triton)


@_operator.register_fake
def _(hidden, head, a, head_a, b, head_b, labels, weights, early, triton):
    (rows, width), dtype = hidden.shape, accumulation_dtype(hidden)
    return (
        hidden.new_empty(rows, dtype=dtype),
        hidden.new_empty(rows, 3, dtype=dtype),
        hidden.new_empty(rows if early else 0, width),
    )


@torch.library.custom_op(
    "alignflow::linear_soft_cross_entropy_backward",
    mutates_args=(),
    schema=f"(Tensor upstream, Tensor normalizers, {ROWS}, bool triton) -> (Tensor, Tensor)",
)
def _backward_operator(
    upstream, normalizers, hidden, head, a, head_a, b, head_b, labels, weights, triton
):
    rows = _Rows(hidden, head, a, head_a, b, head_b, labels, weights)
    with torch.cuda.device_of(hidden):
        return _run_backward(upstream, normalizers, rows, triton)


@_backward_operator.register_fake
def _(upstream, normalizers, hidden, head, a, head_a, b, head_b, labels, weights, triton):
    return torch.empty(hidden.shape, **_like(hidden)), torch.empty(head.shape, **_like(head))


def _save(ctx, inputs, output):
    *arguments, ctx.early, ctx.triton = inputs
    ctx.save_for_backward(*arguments, *output[1:])


def _differentiate(ctx, upstream, *_):
    *arguments, normalizers, early = ctx.saved_tensors
    hidden, head, a, head_a, b, head_b, labels, weights = arguments
    in_head = None
    if torch.is_grad_enabled():  # a derivative of this gradient will be wanted
        learned = [tensor for tensor in (hidden, head) if tensor.requires_grad]
        loss = linear_soft_cross_entropy_reference(
            hidden,
            head,
            a if head_a is None else (a, head_a),
            b if head_b is None else (b, head_b),
            labels,
            weights,
        )
        found = iter(torch.autograd.grad(loss, learned, upstream, create_graph=True))
        in_hidden = next(found) if hidden.requires_grad else None
        in_head = next(found) if head.requires_grad else None
    elif ctx.early:
        in_hidden = (upstream[:, None] * early).to(hidden.dtype)
    else:
        in_hidden, in_head = _backward_operator(upstream, normalizers, *arguments, ctx.triton)
    return in_hidden, in_head, *[None] * 8


_operator.register_autograd(_differentiate, setup_context=_save)
