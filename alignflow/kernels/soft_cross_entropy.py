r"""Cross-entropy of logits against two teachers and a label.

.. math::
    T &= a\, \mathrm{softmax}(A) + b\, \mathrm{softmax}(B) + c\, e_{y} \\
    L &= -\sum_k T_k \log \mathrm{softmax}(z)_k
       = w \operatorname{lse}(z) - a\, \mathbb{E}_A z - b\, \mathbb{E}_B z - c\, z_y,
       \qquad w = a + b + c \\
    \partial L / \partial z &= w\, \mathrm{softmax}(z) - T

The coefficients are per row and of any sign; with w = 1 this is the loss of every rule for flow
maps on the simplex, and w scales a row.

Bound on bytes. The loss needs three log-normalizers and two means, all of which accumulate online
in one pass: each of z, A and B is read once, 3V of a row. The gradient needs the normalizers before
its first element, so where a row exceeds on-chip memory it reads all three again and writes one:
3V + 1V. Both kernels below move exactly this, and nothing of a teacher whose coefficient in a row
is 0. No probability is stored.

Source: `online` tells where the soft-max in one pass is from.
"""

import torch
from torch import Tensor

from alignflow.kernels.backend import (
    is_small,
    jit,
    needs_definition,
    pieces,
    runs_triton,
    tl,
    unit_stride,
)
from alignflow.kernels.online import merge, online, row_options
from alignflow.precision import accumulation_dtype

__all__ = ["soft_cross_entropy", "soft_cross_entropy_reference"]


def soft_cross_entropy(
    logits: Tensor,
    teacher_a: Tensor | None,
    teacher_b: Tensor | None,
    labels: Tensor | None,
    weights: Tensor,
) -> Tensor:
    """Losses of rows, with neither probabilities nor float32 copies of the logits stored.

    A gradient flows into the logits. If one is wanted in a teacher or in the weights, or in forward
    mode, or of the gradient itself, it is `soft_cross_entropy_reference`'s, which stores
    probabilities: give constants detached.

    Args:
        logits: (N, V).
        teacher_a: Logits (N, V), or None for a = 0.
        teacher_b: Logits (N, V), or None for b = 0.
        labels: Whole numbers from 0 to V - 1, (N,), of any value where c is 0; None for c = 0.
        weights: The coefficients a, b, c of each row, (N, 3), of any sign. A teacher is not read in
            rows whose coefficient is 0.

    Returns:
        (N,), at least float32.

    Raises:
        ValueError: If shapes disagree, or a label on the CPU is none of these numbers.
    """
    check_rows(logits, teacher_a, teacher_b, labels, weights)
    if needs_definition(teacher_a, teacher_b, weights):
        return soft_cross_entropy_reference(logits, teacher_a, teacher_b, labels, weights)
    triton = runs_triton(logits, teacher_a, teacher_b)
    if not triton and is_small(logits):
        return soft_cross_entropy_reference(logits, teacher_a, teacher_b, labels, weights)
    return _operator(logits, teacher_a, teacher_b, labels, weights, triton)[0]


def soft_cross_entropy_reference(
    logits: Tensor,
    teacher_a: Tensor | None,
    teacher_b: Tensor | None,
    labels: Tensor | None,
    weights: Tensor,
) -> Tensor:
    """The definition, differentiable in everything to any order and in both modes.

    Args and result are those of `soft_cross_entropy`.
    """
    dtype = accumulation_dtype(logits)
    z, weights = logits.to(dtype), weights.to(dtype)
    normalizer = z.logsumexp(-1)
    loss = 0.0 * normalizer  # a function of the logits, also if nothing is given
    for teacher, weight in zip((teacher_a, teacher_b), weights.unbind(-1), strict=False):
        if teacher is None:
            continue
        target = teacher.to(dtype).softmax(-1)
        # a token that both rule out adds nothing, and not 0 * inf
        mean = (target * z.masked_fill((target == 0) & (z == -torch.inf), 0.0)).sum(-1)
        loss = loss + torch.where(weight == 0, 0.0, weight * (normalizer - mean))
    if labels is not None:
        weight = weights[:, 2]
        chosen = torch.where(weight == 0, 0, labels.long())
        picked = z.gather(-1, chosen[:, None]).squeeze(-1)
        loss = loss + torch.where(weight == 0, 0.0, weight * (normalizer - picked))
    return loss


def check_rows(
    logits: Tensor,
    teacher_a: Tensor | None,
    teacher_b: Tensor | None,
    labels: Tensor | None,
    weights: Tensor,
    size: int | None = None,
) -> None:
    """Refuse arguments that do not fit logits of (N, V).

    Args:
        logits: Whose rows the others must have.
        teacher_a: As given to the loss.
        teacher_b: As given to the loss.
        labels: As given to the loss.
        weights: As given to the loss.
        size: V, by default that of the logits.
    """
    if logits.ndim != 2:
        raise ValueError(f"logits must be (N, V), got {tuple(logits.shape)}")
    rows, size = len(logits), logits.shape[1] if size is None else size
    for name, teacher in (("teacher_a", teacher_a), ("teacher_b", teacher_b)):
        if teacher is not None and teacher.shape != (rows, size):
            raise ValueError(f"{name} must be ({rows}, {size}), got {tuple(teacher.shape)}")
    if weights.shape != (rows, 3):
        raise ValueError(f"weights must be ({rows}, 3), got {tuple(weights.shape)}")
    if labels is None:
        return
    if labels.shape != (rows,) or labels.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"labels must be whole numbers ({rows},), got {labels.dtype} {tuple(labels.shape)}"
        )
    # a GPU would wait for the answer; there the loss of such a row is NaN
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = (labels < 0) | (labels >= size)
        if (wrong & (weights[:, 2] != 0)).any():
            raise ValueError(
                f"labels must be from 0 to {size - 1} where their coefficient is not 0"
            )


# --- Triton ---------------------------------------------------------------------------------------


@jit
def _online_mean(x, values, largest, total, weighted):
    """Add a block of logits x to each lane's maximum, sum and mean of `values` under softmax(x)."""
    scale = tl.exp(-tl.abs(x - largest))  # of what is the smaller of the two
    above = x > largest
    total = tl.where(above, total * scale + 1.0, total + scale)
    # where a scale is 0 the value may be infinite
    added = tl.where(scale > 0, values * scale, 0.0)
    before = tl.where(scale > 0, weighted * scale, 0.0)
    weighted = tl.where(above, before + values, weighted + added)
    return tl.where(above, x, largest), total, weighted


@jit
def _merge_mean(largest, total, weighted):
    """The log-normalizer of a row and the mean of its values, from its lanes."""
    top = tl.max(largest, 0)
    scale = tl.exp(largest - top)
    mass = tl.sum(total * scale, 0)
    mean = tl.sum(tl.where(total * scale > 0, weighted * scale, 0.0), 0) / mass
    return top + tl.log(mass), mean


@jit
def soft_cross_entropy_forward_kernel(
    z,  # [N, V]
    a,  # [N, V]
    b,  # [N, V]
    labels,  # [N]
    weights,  # [N, 3]
    loss,  # [N]
    normalizers,  # [N, 3]
    V,
    stride_z,
    stride_a,
    stride_b,
    HAS_A: tl.constexpr,
    HAS_B: tl.constexpr,
    HAS_LABELS: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    weight_a = tl.load(weights + 3 * row).to(tl.float32)
    weight_b = tl.load(weights + 3 * row + 1).to(tl.float32)
    weight_c = tl.load(weights + 3 * row + 2).to(tl.float32)
    end_a = tl.where(weight_a != 0, V, 0)
    end_b = tl.where(weight_b != 0, V, 0)
    lowest = tl.full([BLOCK], -3.4028234663852886e38, tl.float32)
    nothing = tl.zeros([BLOCK], tl.float32)
    z_largest, z_total = lowest, nothing
    a_largest, a_total, a_weighted = lowest, nothing, nothing
    b_largest, b_total, b_weighted = lowest, nothing, nothing
    for start in tl.range(0, V, BLOCK, num_stages=STAGES):
        k = start + lanes
        inside = k < V
        zs = tl.load(z + row * stride_z + k, mask=inside, other=-float("inf")).to(tl.float32)
        if HAS_A:
            xs = tl.load(a + row * stride_a + k, mask=k < end_a, other=-float("inf"))
            xs = xs.to(tl.float32)
            a_largest, a_total, a_weighted = _online_mean(xs, zs, a_largest, a_total, a_weighted)
        if HAS_B:
            xs = tl.load(b + row * stride_b + k, mask=k < end_b, other=-float("inf"))
            xs = xs.to(tl.float32)
            b_largest, b_total, b_weighted = _online_mean(xs, zs, b_largest, b_total, b_weighted)
        z_largest, z_total = online(zs, z_largest, z_total)
    normalizer = merge(z_largest, z_total)
    tl.store(normalizers + 3 * row, normalizer)
    value = normalizer * 0.0
    if HAS_A:
        lse, mean = _merge_mean(a_largest, a_total, a_weighted)
        tl.store(normalizers + 3 * row + 1, lse)
        value += tl.where(weight_a != 0, weight_a * (normalizer - mean), 0.0)
    else:
        tl.store(normalizers + 3 * row + 1, 0.0)
    if HAS_B:
        lse, mean = _merge_mean(b_largest, b_total, b_weighted)
        tl.store(normalizers + 3 * row + 2, lse)
        value += tl.where(weight_b != 0, weight_b * (normalizer - mean), 0.0)
    else:
        tl.store(normalizers + 3 * row + 2, 0.0)
    if HAS_LABELS:
        label = tl.load(labels + row).to(tl.int64)
        known = (label >= 0) & (label < V) & (weight_c != 0)
        picked = tl.load(z + row * stride_z + label, mask=known, other=float("nan"))
        value += tl.where(weight_c != 0, weight_c * (normalizer - picked.to(tl.float32)), 0.0)
    tl.store(loss + row, value)


@jit
def soft_cross_entropy_backward_kernel(
    z,  # [N, V]
    a,  # [N, V]
    b,  # [N, V]
    labels,  # [N]
    weights,  # [N, 3]
    normalizers,  # [N, 3]
    upstream,  # [N]
    gradient,  # [N, V], which may be z itself
    V,
    stride_z,
    stride_a,
    stride_b,
    stride_gradient,
    HAS_A: tl.constexpr,
    HAS_B: tl.constexpr,
    HAS_LABELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    inside = k < V
    scale = tl.load(upstream + row).to(tl.float32)
    mass = 0.0
    target = tl.zeros([BLOCK], tl.float32)
    if HAS_A:
        weight = tl.load(weights + 3 * row).to(tl.float32)
        lse = tl.load(normalizers + 3 * row + 1)
        read = k < tl.where(weight != 0, V, 0)
        xs = tl.load(a + row * stride_a + k, mask=read, other=-float("inf")).to(tl.float32)
        target += tl.where(read, weight * tl.exp(xs - lse), 0.0)
        mass += weight
    if HAS_B:
        weight = tl.load(weights + 3 * row + 1).to(tl.float32)
        lse = tl.load(normalizers + 3 * row + 2)
        read = k < tl.where(weight != 0, V, 0)
        xs = tl.load(b + row * stride_b + k, mask=read, other=-float("inf")).to(tl.float32)
        target += tl.where(read, weight * tl.exp(xs - lse), 0.0)
        mass += weight
    if HAS_LABELS:
        weight = tl.load(weights + 3 * row + 2).to(tl.float32)
        label = tl.load(labels + row)
        target += tl.where(k == label, weight, 0.0)
        mass += weight
    normalizer = tl.load(normalizers + 3 * row)
    zs = tl.load(z + row * stride_z + k, mask=inside, other=0.0).to(tl.float32)
    result = scale * (mass * tl.exp(zs - normalizer) - target)
    tl.store(
        gradient + row * stride_gradient + k, result.to(gradient.dtype.element_ty), mask=inside
    )


def triton_forward(logits, teacher_a, teacher_b, labels, weights) -> tuple[Tensor, Tensor]:
    """Losses (N,) and log-normalizers (N, 3) of the logits and the teachers, both float32."""
    rows, size = logits.shape
    loss = torch.empty(rows, dtype=torch.float32, device=logits.device)
    normalizers = torch.empty(rows, 3, dtype=torch.float32, device=logits.device)
    z = unit_stride(logits)
    a, b = (z if x is None else unit_stride(x) for x in (teacher_a, teacher_b))
    if rows:
        soft_cross_entropy_forward_kernel[(rows,)](
            z,
            a,
            b,
            weights if labels is None else labels.contiguous(),
            weights.contiguous(),
            loss,
            normalizers,
            size,
            *(x.stride(0) for x in (z, a, b)),
            HAS_A=teacher_a is not None,
            HAS_B=teacher_b is not None,
            HAS_LABELS=labels is not None,
            **row_options(size),
        )
    return loss, normalizers


def triton_backward(
    upstream, logits, teacher_a, teacher_b, labels, weights, normalizers, gradient
) -> None:
    """Write the gradient in the logits, which may be the logits themselves."""
    rows, size = logits.shape
    z = unit_stride(logits)
    a, b = (z if x is None else unit_stride(x) for x in (teacher_a, teacher_b))
    options = row_options(size)
    del options["STAGES"]  # it has no loop
    if rows:
        soft_cross_entropy_backward_kernel[(rows, -(-size // options["BLOCK"]))](
            z,
            a,
            b,
            weights if labels is None else labels.contiguous(),
            weights.contiguous(),
            normalizers,
            upstream.contiguous(),
            gradient,
            size,
            *(x.stride(0) for x in (z, a, b, gradient)),
            HAS_A=teacher_a is not None,
            HAS_B=teacher_b is not None,
            HAS_LABELS=labels is not None,
            **options,
        )


# --- torch, some rows at once ---------------------------------------------------------------------


def torch_forward(logits, teacher_a, teacher_b, labels, weights) -> tuple[Tensor, Tensor]:
    """As `triton_forward`, in the dtype of the loss."""
    dtype = accumulation_dtype(logits)
    loss = torch.zeros(len(logits), dtype=dtype, device=logits.device)
    normalizers = torch.zeros(len(logits), 3, dtype=dtype, device=logits.device)
    for piece in pieces(len(logits), logits.shape[1], logits.device):
        z, weight = logits[piece].to(dtype), weights[piece].to(dtype)
        normalizers[piece, 0] = normalizer = z.logsumexp(-1)
        for column, teacher in enumerate((teacher_a, teacher_b)):
            if teacher is None or _is_off(weight[:, column]):
                continue
            x = teacher[piece].to(dtype)
            largest = x.amax(-1, keepdim=True)
            target = (x - largest).exp_()
            total = target.sum(-1)
            normalizers[piece, column + 1] = largest.squeeze(-1) + total.log()
            mean = _weighted_sum(target, z) / total
            coefficient = weight[:, column]
            loss[piece] += torch.where(coefficient == 0, 0.0, coefficient * (normalizer - mean))
        if labels is not None:
            coefficient = weight[:, 2]
            chosen = torch.where(coefficient == 0, 0, labels[piece].long())
            picked = z.gather(-1, chosen[:, None]).squeeze(-1)
            loss[piece] += torch.where(coefficient == 0, 0.0, coefficient * (normalizer - picked))
    return loss, normalizers


def torch_backward(
    upstream, logits, teacher_a, teacher_b, labels, weights, normalizers, gradient
) -> None:
    """As `triton_backward`."""
    dtype = normalizers.dtype
    for piece in pieces(len(logits), logits.shape[1], logits.device):
        scale = upstream[piece].to(dtype)
        weight = weights[piece].to(dtype)
        present = weight.new_tensor(
            [teacher_a is not None, teacher_b is not None, labels is not None]
        )
        weight = weight * present * scale[:, None]
        lse = normalizers[piece]
        result = logits[piece].to(dtype) - lse[:, :1]
        result.exp_().mul_(weight.sum(-1, keepdim=True))
        for column, teacher in enumerate((teacher_a, teacher_b)):
            if teacher is None or _is_off(weight[:, column]):
                continue
            target = (teacher[piece].to(dtype) - lse[:, column + 1, None]).exp_()
            coefficient = weight[:, column, None]
            result -= torch.where(coefficient == 0, 0.0, target.mul_(coefficient))
        if labels is not None:
            coefficient = weight[:, 2]
            chosen = torch.where(coefficient == 0, 0, labels[piece].long())
            result.scatter_add_(-1, chosen[:, None], -coefficient[:, None])
        gradient[piece] = result


def _weighted_sum(target: Tensor, z: Tensor) -> Tensor:
    """Row sums of target * z, where 0 * inf is 0."""
    result = torch.linalg.vecdot(target, z)
    if result.device.type == "cpu" and not result.isnan().any():
        return result
    return torch.where(target == 0, 0.0, target * z).sum(-1)


def _is_off(coefficient: Tensor) -> bool:
    """Whether the coefficients of all these rows are 0, where asking costs no waiting."""
    return coefficient.device.type == "cpu" and not coefficient.any()


# --- the operator ---------------------------------------------------------------------------------


@torch.library.custom_op(
    "alignflow::soft_cross_entropy",
    mutates_args=(),
    schema="(Tensor logits, Tensor? teacher_a, Tensor? teacher_b, Tensor? labels, Tensor weights, "
    "bool triton) -> (Tensor, Tensor)",
)
def _operator(logits, teacher_a, teacher_b, labels, weights, triton):
    forward = triton_forward if triton else torch_forward
    with torch.cuda.device_of(logits):
        return forward(logits, teacher_a, teacher_b, labels, weights)


@_operator.register_fake
def _(logits, teacher_a, teacher_b, labels, weights, triton):
    rows, dtype = logits.shape[0], accumulation_dtype(logits)
    return logits.new_empty(rows, dtype=dtype), logits.new_empty(rows, 3, dtype=dtype)


@torch.library.custom_op(
    "alignflow::soft_cross_entropy_backward",
    mutates_args=(),
    schema="(Tensor upstream, Tensor logits, Tensor? teacher_a, Tensor? teacher_b, Tensor? labels, "
    "Tensor weights, Tensor normalizers, bool triton) -> Tensor",
)
def _backward_operator(
    upstream, logits, teacher_a, teacher_b, labels, weights, normalizers, triton
):
    gradient = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    backward = triton_backward if triton else torch_backward
    with torch.cuda.device_of(logits):
        backward(upstream, logits, teacher_a, teacher_b, labels, weights, normalizers, gradient)
    return gradient


@_backward_operator.register_fake
def _(upstream, logits, teacher_a, teacher_b, labels, weights, normalizers, triton):
    return torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)


def _save(ctx, inputs, output):
    *arguments, ctx.triton = inputs
    ctx.save_for_backward(*arguments, output[1])


def _differentiate(ctx, upstream, _):
    *arguments, normalizers = ctx.saved_tensors
    if torch.is_grad_enabled():  # a derivative of this gradient will be wanted
        loss = soft_cross_entropy_reference(*arguments)
        (gradient,) = torch.autograd.grad(loss, arguments[0], upstream, create_graph=True)
    else:
        gradient = _backward_operator(upstream, *arguments, normalizers, ctx.triton)
    return gradient, None, None, None, None, None


_operator.register_autograd(_differentiate, setup_context=_save)
