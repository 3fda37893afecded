r"""A step of a flow map on the simplex from logits.

.. math::
    X_{s,t}(x) &= \kappa x + \mu p, \qquad p = \mathrm{softmax}(z / \tau), \qquad
    \kappa = \tfrac{1-t}{1-s}, \quad \mu = \tfrac{t-s}{1-s} \\
    \partial z &= \tfrac{\mu}{\tau}\, p\, (g - \langle p, g \rangle), \qquad \partial x = \kappa g

With top-k, p is restricted to the k largest logits and all that equal the k-th.

Bound on bytes. Logits and state are read, the next state is written: 3V of a row. The soft-max
needs its normalizer before its first element, so a row of several blocks is read twice, the second
time from the cache where it was just put: 3V from memory while the rows in flight fit there, and 4V
at most. The gradient reads logits and upstream twice likewise and writes one or two rows: 3V or 4V,
at most 6V. Top-k reads the logits once more, to find the k-th. p is never stored.
"""

import torch
from torch import Tensor

from alignflow import checks
from alignflow.interpolants import flow_map_from_mean_denoiser, refuse_end
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

__all__ = ["simplex_step", "simplex_step_reference"]


def simplex_step(
    logits: Tensor,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Tensor:
    """Jump from s to t by the mean denoiser that logits are of, without storing it.

    Gradients flow into the logits and the state. If one is wanted in the times, or in forward mode,
    or of the gradient itself, it is the definition's.

    Args:
        logits: z_{s,t}(x), (N, ..., V).
        x: State at time s, (N, ..., V).
        s: Start, (N,) in [0, 1).
        t: End, (N,) in [0, 1], s <= t.
        temperature: Divides the logits, positive.
        top_k: The mean denoiser is restricted to so many tokens; None for all.

    Returns:
        State at time t, (N, ..., V), of the state's dtype.

    Raises:
        ValueError: If shapes disagree, an option is out of range, or a start on the CPU is 1.
    """
    if logits.shape != x.shape or x.ndim < 2:
        raise ValueError(
            f"logits and x must be (N, ..., V), got {tuple(logits.shape)} and {tuple(x.shape)}"
        )
    for name, time in (("s", s), ("t", t)):
        if time.shape != x.shape[:1]:
            raise ValueError(f"{name} must be ({len(x)},), got {tuple(time.shape)}")
    temperature = checks.positive("temperature", temperature)
    if top_k is not None:
        top_k = checks.count("top_k", top_k, most=x.shape[-1])
    triton = runs_triton(logits, x)
    if needs_definition(s, t) or not triton and is_small(x):
        return simplex_step_reference(logits, x, s, t, temperature, top_k)
    refuse_end(s, "a jump")
    rows = x.shape[1:-1].numel()
    keep, move = (c.repeat_interleave(rows) for c in _coefficients(s, t))
    result = _operator(
        logits.flatten(0, -2), x.flatten(0, -2), keep, move, 1 / temperature, top_k or 0, triton
    )
    return result[0].view(x.shape)


def simplex_step_reference(
    logits: Tensor,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Tensor:
    """The definition, differentiable in the tensors to any order and in both modes."""
    dtype = accumulation_dtype(x)
    p = _distribution(logits.to(dtype), 1 / temperature, top_k or 0)
    return flow_map_from_mean_denoiser(x.to(dtype), s.to(dtype), t.to(dtype), p).to(x.dtype)


def _coefficients(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """kappa and mu, (N,)."""
    return (1 - t) / (1 - s), (t - s) / (1 - s)


def _distribution(logits: Tensor, inverse: float, top_k: int) -> Tensor:
    """p (..., V) of logits, those below the k-th left out."""
    if top_k:
        logits = logits.masked_fill(logits < _threshold(logits, top_k)[..., None], -torch.inf)
    return (logits if inverse == 1 else logits * inverse).softmax(-1)


def _threshold(logits: Tensor, top_k: int) -> Tensor:
    """The k-th largest logit of each row, (...,)."""
    return logits.detach().topk(top_k, -1).values[..., -1].contiguous()


# --- Triton ---------------------------------------------------------------------------------------


@jit
def _scaled(z, k, V, inverse, threshold, TOP_K: tl.constexpr):
    """Logits over the temperature, -inf outside the row and below the threshold."""
    x = tl.load(z + k, mask=k < V, other=-float("inf"), eviction_policy="evict_last")
    x = x.to(tl.float32)
    if TOP_K:
        x = tl.where(x < threshold, -float("inf"), x)
    return x * inverse


@jit
def simplex_step_forward_kernel(
    z,  # [N, V]
    x,  # [N, V]
    keep,  # [N]
    move,  # [N]
    thresholds,  # [N]
    result,  # [N, V]
    normalizers,  # [N]
    V,
    inverse,
    stride_z,
    stride_x,
    TOP_K: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
    ONE_BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    z += row * stride_z
    x += row * stride_x
    result += row * V
    kappa = tl.load(keep + row).to(tl.float32)
    mu = tl.load(move + row).to(tl.float32)
    threshold = tl.load(thresholds + row).to(tl.float32) if TOP_K else 0.0
    if ONE_BLOCK:
        logits = _scaled(z, lanes, V, inverse, threshold, TOP_K)
        state = tl.load(x + lanes, mask=lanes < V, other=0.0).to(tl.float32)
        top = tl.max(logits, 0)
        normalizer = top + tl.log(tl.sum(tl.exp(logits - top), 0))
        jumped = kappa * state + mu * tl.exp(logits - normalizer)
        tl.store(result + lanes, jumped.to(result.dtype.element_ty), mask=lanes < V)
        tl.store(normalizers + row, normalizer)
    else:
        largest = tl.full([BLOCK], -3.4028234663852886e38, tl.float32)
        total = tl.zeros([BLOCK], tl.float32)
        for start in tl.range(0, V, BLOCK, num_stages=STAGES):
            logits = _scaled(z, start + lanes, V, inverse, threshold, TOP_K)
            largest, total = online(logits, largest, total)
        normalizer = merge(largest, total)
        tl.store(normalizers + row, normalizer)
        for start in tl.range(0, V, BLOCK, num_stages=STAGES):
            k = start + lanes
            logits = _scaled(z, k, V, inverse, threshold, TOP_K)
            state = tl.load(x + k, mask=k < V, other=0.0, eviction_policy="evict_first")
            jumped = kappa * state.to(tl.float32) + mu * tl.exp(logits - normalizer)
            tl.store(result + k, jumped.to(result.dtype.element_ty), mask=k < V)


@jit
def simplex_step_backward_kernel(
    upstream,  # [N, V]
    z,  # [N, V]
    keep,  # [N]
    move,  # [N]
    thresholds,  # [N]
    normalizers,  # [N]
    in_logits,  # [N, V]
    in_x,  # [N, V]
    V,
    inverse,
    stride_upstream,
    stride_z,
    TOP_K: tl.constexpr,
    IN_X: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    upstream += row * stride_upstream
    z += row * stride_z
    kappa = tl.load(keep + row).to(tl.float32)
    mu = tl.load(move + row).to(tl.float32)
    threshold = tl.load(thresholds + row).to(tl.float32) if TOP_K else 0.0
    normalizer = tl.load(normalizers + row)
    partial = tl.zeros([BLOCK], tl.float32)
    for start in tl.range(0, V, BLOCK, num_stages=STAGES):
        k = start + lanes
        p = tl.exp(_scaled(z, k, V, inverse, threshold, TOP_K) - normalizer)
        g = tl.load(upstream + k, mask=k < V, other=0.0, eviction_policy="evict_last")
        partial += p * g.to(tl.float32)
    mean = tl.sum(partial, 0)
    for start in tl.range(0, V, BLOCK, num_stages=STAGES):
        k = start + lanes
        p = tl.exp(_scaled(z, k, V, inverse, threshold, TOP_K) - normalizer)
        g = tl.load(upstream + k, mask=k < V, other=0.0).to(tl.float32)
        change = mu * inverse * p * (g - mean)
        tl.store(in_logits + row * V + k, change.to(in_logits.dtype.element_ty), mask=k < V)
        if IN_X:
            tl.store(in_x + row * V + k, (kappa * g).to(in_x.dtype.element_ty), mask=k < V)


def _triton_forward(logits, x, keep, move, inverse, top_k, result, normalizers, thresholds) -> None:
    rows, size = x.shape
    logits, x = unit_stride(logits), unit_stride(x)
    options = row_options(size)
    if rows:
        simplex_step_forward_kernel[(rows,)](
            logits,
            x,
            keep.contiguous(),
            move.contiguous(),
            thresholds,
            result,
            normalizers,
            size,
            inverse,
            logits.stride(0),
            x.stride(0),
            TOP_K=top_k > 0,
            ONE_BLOCK=size <= options["BLOCK"],
            **options,
        )


def _triton_backward(
    upstream, logits, keep, move, inverse, top_k, normalizers, thresholds, in_logits, in_x
) -> None:
    rows, size = logits.shape
    upstream, logits = unit_stride(upstream), unit_stride(logits)
    options = row_options(size)
    if rows:
        simplex_step_backward_kernel[(rows,)](
            upstream,
            logits,
            keep.contiguous(),
            move.contiguous(),
            thresholds,
            normalizers,
            in_logits,
            in_x,
            size,
            inverse,
            upstream.stride(0),
            logits.stride(0),
            TOP_K=top_k > 0,
            IN_X=in_x.numel() > 0,
            **options,
        )


# --- torch, some rows at once ---------------------------------------------------------------------


def _torch_forward(logits, x, keep, move, inverse, top_k, result, normalizers, thresholds) -> None:
    for piece in pieces(len(x), x.shape[1], x.device):
        p = _distribution(logits[piece].to(normalizers.dtype), inverse, top_k)
        p *= move[piece, None]
        result[piece] = p.addcmul_(x[piece], keep[piece, None].to(p.dtype))


def _torch_backward(
    upstream, logits, keep, move, inverse, top_k, normalizers, thresholds, in_logits, in_x
) -> None:
    for piece in pieces(len(logits), logits.shape[1], logits.device):
        p = _distribution(logits[piece].to(normalizers.dtype), inverse, top_k)
        g = upstream[piece].to(p.dtype)
        mean = torch.linalg.vecdot(p, g)[:, None]
        p *= move[piece, None] * inverse
        torch.mul(p, g - mean, out=in_logits[piece])
        if in_x.numel():
            in_x[piece] = g * keep[piece, None]


# --- the operator ---------------------------------------------------------------------------------


@torch.library.custom_op(
    "alignflow::simplex_step",
    mutates_args=(),
    schema="(Tensor logits, Tensor x, Tensor keep, Tensor move, float inverse, int top_k, "
    "bool triton) -> (Tensor, Tensor, Tensor)",
)
def _operator(logits, x, keep, move, inverse, top_k, triton):
    dtype = accumulation_dtype(x)
    result = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    normalizers = torch.empty(len(x) if triton else 0, dtype=dtype, device=x.device)
    thresholds = _threshold(logits, top_k) if top_k else normalizers.new_empty(0)
    forward = _triton_forward if triton else _torch_forward
    with torch.cuda.device_of(x):
        forward(logits, x, keep, move, inverse, top_k, result, normalizers, thresholds)
    return result, normalizers, thresholds


@_operator.register_fake
def _(logits, x, keep, move, inverse, top_k, triton):
    dtype, rows = accumulation_dtype(x), x.shape[0]
    thresholds = logits.new_empty(rows) if top_k else x.new_empty(0, dtype=dtype)
    result = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return result, x.new_empty(rows if triton else 0, dtype=dtype), thresholds


@torch.library.custom_op(
    "alignflow::simplex_step_backward",
    mutates_args=(),
    schema="(Tensor upstream, Tensor logits, Tensor keep, Tensor move, Tensor normalizers, "
    "Tensor thresholds, float inverse, int top_k, bool with_x, bool triton) -> (Tensor, Tensor)",
)
def _backward_operator(
    upstream, logits, keep, move, normalizers, thresholds, inverse, top_k, with_x, triton
):
    in_logits = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    in_x = upstream.new_empty(upstream.shape if with_x else 0)
    backward = _triton_backward if triton else _torch_backward
    with torch.cuda.device_of(logits):
        backward(
            upstream, logits, keep, move, inverse, top_k, normalizers, thresholds, in_logits, in_x
        )
    return in_logits, in_x


@_backward_operator.register_fake
def _(upstream, logits, keep, move, normalizers, thresholds, inverse, top_k, with_x, triton):
    in_logits = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    return in_logits, upstream.new_empty(upstream.shape if with_x else 0)


def _save(ctx, inputs, output):
    logits, x, keep, move, ctx.inverse, ctx.top_k, ctx.triton = inputs
    ctx.save_for_backward(logits, x, keep, move, *output[1:])


def _differentiate(ctx, upstream, *_):
    logits, x, keep, move, normalizers, thresholds = ctx.saved_tensors
    rest = (None,) * 5
    with_x = ctx.needs_input_grad[1]
    if not ctx.needs_input_grad[0]:
        return None, (upstream * keep[:, None]).to(x.dtype) if with_x else None, *rest
    if torch.is_grad_enabled():  # a derivative of this gradient will be wanted
        p = _distribution(logits.to(keep.dtype), ctx.inverse, ctx.top_k)
        centered = upstream - (p * upstream).sum(-1, keepdim=True)
        in_logits = (ctx.inverse * move[:, None] * p * centered).to(logits.dtype)
        return in_logits, (upstream * keep[:, None]).to(x.dtype) if with_x else None, *rest
    in_logits, in_x = _backward_operator(
        upstream, logits, keep, move, normalizers, thresholds,
        ctx.inverse, ctx.top_k, with_x, ctx.triton,
    )  # fmt: skip
    return in_logits, in_x if with_x else None, *rest


_operator.register_autograd(_differentiate, setup_context=_save)
