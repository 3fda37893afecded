r"""Embedding of a soft token: the mean of the rows of a table under a soft-max.

.. math::
    m = p E, \quad p = \mathrm{softmax}(z), \qquad
    \partial z_k = p_k \langle g, E_k - m \rangle, \qquad \partial E = p^\top g

Bound. Three products of [N, V] and [V, d], one forward and two backward, of which a probability is
an operand or a factor of the result: each kernel is a tiled matrix product that makes the
probabilities of a tile from logits and log-normalizers, so that [N, V] is read and never written,
but for the gradient in the logits. Logits are read once for the normalizers and once for each tile
of d columns. What plain torch adds is a write and a read of p forward, and of the gradient in p
backward.

Source: FlashAttention-2 (2307.08691), with the scores given.
"""

import torch
from torch import Tensor

from alignflow.kernels import backend
from alignflow.kernels.backend import (
    block_size,
    is_small,
    jit,
    needs_definition,
    pieces,
    runs_triton,
    tiles,
    tl,
    triton,
    unit_stride,
)
from alignflow.kernels.online import triton_normalizers
from alignflow.precision import accumulation_dtype

__all__ = ["soft_embedding", "soft_embedding_reference"]


def soft_embedding(logits: Tensor, table: Tensor) -> Tensor:
    """Mean rows of a table, with no probability stored.

    Gradients flow into both. In forward mode, and where a gradient of the gradient is wanted, they
    are the definition's.

    Args:
        logits: (N, ..., V).
        table: E, (V, d).

    Returns:
        (N, ..., d), of the table's dtype.

    Raises:
        ValueError: If shapes disagree.
    """
    if table.ndim != 2 or logits.ndim < 1 or logits.shape[-1] != len(table):
        raise ValueError(
            "logits must be (..., V) and table (V, d), got "
            f"{tuple(logits.shape)} and {tuple(table.shape)}"
        )
    # float32 products without rounding to tf32 leave too few registers for a fused one
    by_triton = table.dtype.itemsize == 2 and runs_triton(logits, table)
    if needs_definition() or not by_triton and is_small(logits):
        return soft_embedding_reference(logits, table)
    rows = logits.reshape(-1, logits.shape[-1])
    return _operator(rows, table, by_triton)[0].view(*logits.shape[:-1], table.shape[1])


def soft_embedding_reference(logits: Tensor, table: Tensor) -> Tensor:
    """The definition, differentiable to any order and in both modes."""
    dtype = accumulation_dtype(logits)
    return logits.to(dtype).softmax(-1).to(table.dtype) @ table


# --- Triton ---------------------------------------------------------------------------------------


@jit
def _tile(
    z, normalizers, rows, columns, N, V, stride_z
):  # -> [len(rows), len(columns)], probabilities
    """Probabilities of a tile of logits, 0 outside."""
    inside = (rows < N)[:, None] & (columns < V)[None, :]
    at = z + rows.to(tl.int64)[:, None] * stride_z + columns[None, :]
    x = tl.load(at, mask=inside, other=-float("inf")).to(tl.float32)
    normalizer = tl.load(normalizers + rows, mask=rows < N, other=0.0)
    return tl.exp(x - normalizer[:, None])


@jit
def soft_embedding_forward_kernel(
    z,  # [N, V]
    table,  # [V, D]
    normalizers,  # [N]
    result,  # [N, D]
    N,
    V,
    D,
    stride_z,
    stride_table,
    BN: tl.constexpr,
    BV: tl.constexpr,
    BD: tl.constexpr,
):
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    total = tl.zeros([BN, BD], tl.float32)
    for start in range(0, V, BV):
        k = start + tl.arange(0, BV)
        p = _tile(z, normalizers, rows, k, N, V, stride_z)
        inside = (k < V)[:, None] & (d < D)[None, :]
        at = table + k.to(tl.int64)[:, None] * stride_table + d[None, :]
        entries = tl.load(at, mask=inside, other=0.0)
        total = tl.dot(p.to(entries.dtype), entries, total, input_precision="ieee")
    inside = (rows < N)[:, None] & (d < D)[None, :]
    at = result + rows.to(tl.int64)[:, None] * D + d[None, :]
    tl.store(at, total.to(result.dtype.element_ty), mask=inside)


@jit
def soft_embedding_in_logits_kernel(
    z,  # [N, V]
    table,  # [V, D]
    normalizers,  # [N]
    upstream,  # [N, D]
    means,  # [N], <g, m>
    in_logits,  # [N, V]
    N,
    V,
    D,
    stride_z,
    stride_table,
    BN: tl.constexpr,
    BV: tl.constexpr,
    BD: tl.constexpr,
):
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    k = tl.program_id(1) * BV + tl.arange(0, BV)
    product = tl.zeros([BN, BV], tl.float32)
    for start in range(0, D, BD):
        d = start + tl.arange(0, BD)
        at = upstream + rows.to(tl.int64)[:, None] * D + d[None, :]
        g = tl.load(at, mask=(rows < N)[:, None] & (d < D)[None, :], other=0.0)
        at = table + k.to(tl.int64)[None, :] * stride_table + d[:, None]  # [BD, BV]
        entries = tl.load(at, mask=(d < D)[:, None] & (k < V)[None, :], other=0.0)
        product = tl.dot(g.to(entries.dtype), entries, product, input_precision="ieee")
    p = _tile(z, normalizers, rows, k, N, V, stride_z)
    mean = tl.load(means + rows, mask=rows < N, other=0.0)
    at = in_logits + rows.to(tl.int64)[:, None] * V + k[None, :]
    change = p * (product - mean[:, None])
    inside = (rows < N)[:, None] & (k < V)[None, :]
    tl.store(at, change.to(in_logits.dtype.element_ty), mask=inside)


@jit
def soft_embedding_in_table_kernel(
    z,  # [N, V]
    normalizers,  # [N]
    upstream,  # [N, D]
    in_table,  # [V, D]
    N,
    V,
    D,
    stride_z,
    BN: tl.constexpr,
    BV: tl.constexpr,
    BD: tl.constexpr,
):
    k = tl.program_id(0) * BV + tl.arange(0, BV)
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    total = tl.zeros([BV, BD], tl.float32)
    for start in range(0, N, BN):
        rows = start + tl.arange(0, BN)
        p = _tile(z, normalizers, rows, k, N, V, stride_z)
        at = upstream + rows.to(tl.int64)[:, None] * D + d[None, :]
        g = tl.load(at, mask=(rows < N)[:, None] & (d < D)[None, :], other=0.0)
        total = tl.dot(tl.trans(p).to(g.dtype), g, total, input_precision="ieee")
    at = in_table + k.to(tl.int64)[:, None] * D + d[None, :]
    inside = (k < V)[:, None] & (d < D)[None, :]
    tl.store(at, total.to(in_table.dtype.element_ty), mask=inside)


# columns of a tile that are summed over: more are spilled
REDUCED = 64


def tile_options(width: int, most: int = 128) -> dict[str, int]:
    """Sizes of tiles for a table of so many columns, warps and stages."""
    return {"BN": 64, "BV": 64, "BD": block_size(width, most), "num_warps": 4, "num_stages": 3}


def _triton_forward(logits, table, result, normalizers) -> None:
    (rows, size), width = logits.shape, table.shape[1]
    logits, table, options = unit_stride(logits), unit_stride(table), tile_options(width)
    normalizers.copy_(triton_normalizers(logits))
    grid = (triton.cdiv(rows, options["BN"]), triton.cdiv(width, options["BD"]))
    if rows:
        soft_embedding_forward_kernel[grid](
            logits, table, normalizers, result, rows, size, width,
            logits.stride(0), table.stride(0), **options,
        )  # fmt: skip


def _triton_backward(upstream, logits, table, result, normalizers, in_logits, in_table) -> None:
    (rows, size), width = logits.shape, table.shape[1]
    logits, table, upstream = unit_stride(logits), unit_stride(table), upstream.contiguous()
    if rows and in_logits.numel():
        options = tile_options(width, REDUCED)
        means = torch.linalg.vecdot(upstream.float(), result.float())
        grid = (triton.cdiv(rows, options["BN"]), triton.cdiv(size, options["BV"]))
        soft_embedding_in_logits_kernel[grid](
            logits, table, normalizers, upstream, means, in_logits, rows, size, width,
            logits.stride(0), table.stride(0), **options,
        )  # fmt: skip
    if in_table.numel():
        options = tile_options(width)
        grid = (triton.cdiv(size, options["BV"]), triton.cdiv(width, options["BD"]))
        soft_embedding_in_table_kernel[grid](
            logits, normalizers, upstream, in_table, rows, size, width,
            logits.stride(0), **options,
        )  # fmt: skip


# --- torch, some rows at once ---------------------------------------------------------------------


def _torch_forward(logits, table, result, normalizers) -> None:
    slices = pieces(len(logits), logits.shape[1], logits.device, backend.ROWS_OF_A_PRODUCT)
    # one buffer for all: what is freed in the loop is not always used again
    buffer = normalizers.new_empty(logits[slices[0]].shape if slices else 0)
    for piece in slices:
        z = logits[piece].to(normalizers.dtype)
        p = torch.softmax(z, -1, out=buffer[: len(z)])
        normalizers[piece] = z.amax(-1) - p.amax(-1).log()
        torch.mm(p.to(table.dtype), table, out=result[piece])


def _torch_backward(upstream, logits, table, result, normalizers, in_logits, in_table) -> None:
    summed = in_table.new_zeros(in_table.shape, dtype=normalizers.dtype)
    means = torch.linalg.vecdot(upstream.to(normalizers.dtype), result.to(normalizers.dtype))
    # a tile holds no whole row, so it has more of them
    rows, size = logits.shape
    for piece, columns in tiles(rows, size, logits.device, 2 * backend.ROWS_OF_A_PRODUCT):
        p = (logits[piece, columns] - normalizers[piece, None]).exp_()
        g = upstream[piece]
        if in_table.numel():
            summed[columns] += p.to(g.dtype).T @ g
        if in_logits.numel():
            change = (g @ table[columns].T).to(p.dtype)
            in_logits[piece, columns] = p.mul_(change.sub_(means[piece, None]))
    in_table.copy_(summed)


# --- the operator ---------------------------------------------------------------------------------


@torch.library.custom_op(
    "alignflow::soft_embedding",
    mutates_args=(),
    schema="(Tensor logits, Tensor table, bool triton) -> (Tensor, Tensor)",
)
def _operator(logits, table, triton):
    result = torch.empty(len(logits), table.shape[1], dtype=table.dtype, device=table.device)
    dtype = accumulation_dtype(logits)
    normalizers = torch.empty(len(logits), dtype=dtype, device=table.device)
    forward = _triton_forward if triton else _torch_forward
    with torch.cuda.device_of(table):
        forward(logits, table, result, normalizers)
    return result, normalizers


@_operator.register_fake
def _(logits, table, triton):
    dtype, rows = accumulation_dtype(logits), logits.shape[0]
    return table.new_empty(rows, table.shape[1]), table.new_empty(rows, dtype=dtype)


@torch.library.custom_op(
    "alignflow::soft_embedding_backward",
    mutates_args=(),
    schema="(Tensor upstream, Tensor logits, Tensor table, Tensor result, Tensor normalizers, "
    "bool with_logits, bool with_table, bool triton) -> (Tensor, Tensor)",
)
def _backward_operator(
    upstream, logits, table, result, normalizers, with_logits, with_table, triton
):
    in_logits, in_table = _gradients(logits, table, with_logits, with_table)
    backward = _triton_backward if triton else _torch_backward
    with torch.cuda.device_of(table):
        backward(upstream, logits, table, result, normalizers, in_logits, in_table)
    return in_logits, in_table


@_backward_operator.register_fake
def _(upstream, logits, table, result, normalizers, with_logits, with_table, triton):
    return _gradients(logits, table, with_logits, with_table)


def _gradients(logits, table, with_logits, with_table) -> tuple[Tensor, Tensor]:
    """Memory of the gradients, empty for those not wanted."""
    return (
        torch.empty(
            logits.shape if with_logits else (0,), dtype=logits.dtype, device=logits.device
        ),
        torch.empty(table.shape if with_table else (0,), dtype=table.dtype, device=table.device),
    )


def _save(ctx, inputs, output):
    logits, table, ctx.triton = inputs
    ctx.save_for_backward(logits, table, *output)


def _differentiate(ctx, upstream, _):
    logits, table, result, normalizers = ctx.saved_tensors
    with_logits, with_table, _ = ctx.needs_input_grad
    if torch.is_grad_enabled():  # a derivative of this gradient will be wanted
        p = logits.to(accumulation_dtype(logits)).softmax(-1)
        change = (upstream @ table.T).to(p.dtype)
        centered = change - (p * change).sum(-1, keepdim=True)
        return (p * centered).to(logits.dtype), p.to(upstream.dtype).T @ upstream, None
    in_logits, in_table = _backward_operator(
        upstream, logits, table, result, normalizers, with_logits, with_table, ctx.triton
    )
    return in_logits if with_logits else None, in_table if with_table else None, None


_operator.register_autograd(_differentiate, setup_context=_save)
